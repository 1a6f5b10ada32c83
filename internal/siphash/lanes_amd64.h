// What lanes_avx2_amd64.s and lanes_avx512_amd64.s have in common. Whoever includes it
// says how the words of v are rotated left: LEFT(n, v, t) by n, LEFT16(v) by 16. t is to
// be written over.

DATA init<>+0(SB)/8, $0x736f6d6570736575
DATA init<>+8(SB)/8, $0x646f72616e646f6d
DATA init<>+16(SB)/8, $0x6c7967656e657261
DATA init<>+24(SB)/8, $0x7465646279746573
DATA init<>+32(SB)/8, $0x1000000000000000 // length2
DATA init<>+40(SB)/8, $0xff
DATA init<>+48(SB)/8, $0x2800000000000000 // length5
GLOBL init<>(SB), RODATA|NOPTR, $56

// round, on four words at once, twice: none of the two waits for the other.
#define ROUND1(v0, v1, v2, v3, t) \
	VPADDQ  v1, v0, v0          \
	VPADDQ  v3, v2, v2          \
	LEFT(13, v1, t)             \
	LEFT16(v3)                  \
	VPXOR   v0, v1, v1          \
	VPXOR   v2, v3, v3          \
	VPSHUFD $0xb1, v0, v0       \
	VPADDQ  v1, v2, v2          \
	VPADDQ  v3, v0, v0          \
	LEFT(21, v3, t)             \
	LEFT(17, v1, t)             \
	VPXOR   v0, v3, v3          \
	VPXOR   v2, v1, v1          \
	VPSHUFD $0xb1, v2, v2

#define ROUND \
	ROUND1(Y0, Y1, Y2, Y3, Y8) \
	ROUND1(Y4, Y5, Y6, Y7, Y9)

// A word of the message goes into v3, and after the round into v0.
#define MIX(x, y) \
	VPXOR x, Y3, Y3 \
	VPXOR y, Y7, Y7 \
	ROUND           \
	VPXOR x, Y0, Y0 \
	VPXOR y, Y4, Y4

// The initial state, which is the same for all, from the key at AX. It stays in Y12 to
// Y15, and the constants at BX.
#define INIT \
	LEAQ         init<>(SB), BX \
	VPBROADCASTQ 0(AX), Y8      \
	VPBROADCASTQ 8(AX), Y9      \
	VPBROADCASTQ 0(BX), Y12     \
	VPBROADCASTQ 8(BX), Y13     \
	VPBROADCASTQ 16(BX), Y14    \
	VPBROADCASTQ 24(BX), Y15    \
	VPXOR        Y8, Y12, Y12   \
	VPXOR        Y9, Y13, Y13   \
	VPXOR        Y8, Y14, Y14   \
	VPXOR        Y9, Y15, Y15

#define BEGIN \
	VMOVDQA Y12, Y0 \
	VMOVDQA Y13, Y1 \
	VMOVDQA Y14, Y2 \
	VMOVDQA Y15, Y3 \
	VMOVDQA Y12, Y4 \
	VMOVDQA Y13, Y5 \
	VMOVDQA Y14, Y6 \
	VMOVDQA Y15, Y7

// The next eight words of an array are mixed in.
#define TAKE(array) \
	VMOVDQU 0(array), Y10  \
	VMOVDQU 32(array), Y11 \
	ADDQ    $64, array     \
	MIX(Y10, Y11)

// The last block, which is at that offset of the constants, and the finalisation. The
// next eight results are stored.
#define END(length) \
	VPBROADCASTQ length(BX), Y10 \
	MIX(Y10, Y10)                \
	VPBROADCASTQ 40(BX), Y10     \
	VPXOR        Y10, Y2, Y2     \
	VPXOR        Y10, Y6, Y6     \
	ROUND                        \
	ROUND                        \
	ROUND                        \
	VPXOR        Y0, Y1, Y1      \
	VPXOR        Y2, Y3, Y3      \
	VPXOR        Y4, Y5, Y5      \
	VPXOR        Y6, Y7, Y7      \
	VPXOR        Y1, Y3, Y3      \
	VPXOR        Y5, Y7, Y7      \
	VMOVDQU      Y3, 0(DI)       \
	VMOVDQU      Y7, 32(DI)      \
	ADDQ         $64, DI

// func (k *Key, out, a, b *uint64, eights int)
TEXT SUMS2(SB), NOSPLIT, $0-40
	MOVQ k+0(FP), AX
	MOVQ out+8(FP), DI
	MOVQ a+16(FP), SI
	MOVQ b+24(FP), DX
	MOVQ eights+32(FP), CX
	INIT

loop2:
	BEGIN
	TAKE(SI)
	TAKE(DX)
	END(32)
	DECQ CX
	JNZ  loop2
	VZEROUPPER
	RET

// func (k *Key, out, a, b, c, d, e *uint64, eights int)
TEXT SUMS5(SB), NOSPLIT, $0-64
	MOVQ k+0(FP), AX
	MOVQ out+8(FP), DI
	MOVQ a+16(FP), SI
	MOVQ b+24(FP), DX
	MOVQ c+32(FP), R8
	MOVQ d+40(FP), R9
	MOVQ e+48(FP), R10
	MOVQ eights+56(FP), CX
	INIT

loop5:
	BEGIN
	TAKE(SI)
	TAKE(DX)
	TAKE(R8)
	TAKE(R9)
	TAKE(R10)
	END(48)
	DECQ CX
	JNZ  loop5
	VZEROUPPER
	RET
