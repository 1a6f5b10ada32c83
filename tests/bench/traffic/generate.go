package traffic

//go:generate go tool bpf2go -cc clang-14 -strip llvm-strip-14 -target bpfel -type counter traffic traffic.c -- -O2 -g -Wall -Werror -I/usr/include/x86_64-linux-gnu -I/usr/include/aarch64-linux-gnu
