package realserver

// The include paths are where Debian and Ubuntu keep <asm/types.h>; clang
// passes over the one that does not exist.
//go:generate go tool bpf2go -cc clang-14 -strip llvm-strip-14 -target bpfel -type counter -type trust_key -type endpoint -type flow -type mapping peer peer.c -- -O2 -g -Wall -Werror -I/usr/include/x86_64-linux-gnu -I/usr/include/aarch64-linux-gnu
