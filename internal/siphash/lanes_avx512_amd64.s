#include "textflag.h"

// One instruction rotates, where AVX2 takes three.
#define LEFT(n, v, t) VPROLQ $n, v, v
#define LEFT16(v) VPROLQ $16, v, v

#define SUMS2 ·sums2AVX512
#define SUMS5 ·sums5AVX512
#include "lanes_amd64.h"
