#include "textflag.h"

// func load(lines *uintptr, n int)
TEXT ·load(SB), NOSPLIT, $0-16
	MOVQ lines+0(FP), AX
	MOVQ n+8(FP), CX
	LEAQ (AX)(CX*8), CX

next:
	CMPQ AX, CX
	JEQ  done
	MOVQ (AX), DX
	PREFETCHT0 (DX)
	ADDQ $8, AX
	JMP  next

done:
	RET
