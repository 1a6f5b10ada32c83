#include "textflag.h"

// Which byte of each word comes where when the word is rotated left by 16.
DATA left16<>+0(SB)/8, $0x0504030201000706
DATA left16<>+8(SB)/8, $0x0d0c0b0a09080f0e
DATA left16<>+16(SB)/8, $0x0504030201000706
DATA left16<>+24(SB)/8, $0x0d0c0b0a09080f0e
GLOBL left16<>(SB), RODATA|NOPTR, $32

#define LEFT(n, v, t) \
	VPSLLQ $n, v, t      \
	VPSRLQ $(64-n), v, v \
	VPOR   t, v, v

#define LEFT16(v) VPSHUFB left16<>(SB), v, v

#define SUMS2 ·sums2AVX2
#define SUMS5 ·sums5AVX2
#include "lanes_amd64.h"
