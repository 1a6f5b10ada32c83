package bpf

// The include paths are where Debian and Ubuntu keep <asm/types.h>; clang
// passes over the one that does not exist.
//go:generate go tool bpf2go -cc clang-14 -strip llvm-strip-14 -target bpfel -type counter -type service_key -type port -type local_key -type port_range -type guard_flag -type guard -type guard_counters -type cookie_secrets xdp xdp.c -- -O2 -g -Wall -Werror -I/usr/include/x86_64-linux-gnu -I/usr/include/aarch64-linux-gnu
