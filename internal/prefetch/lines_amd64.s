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

// func loadNumbers(base unsafe.Pointer, size uintptr, numbers *uint32, n int)
TEXT ·loadNumbers(SB), NOSPLIT, $0-32
	MOVQ base+0(FP), AX
	MOVQ size+8(FP), BX
	MOVQ numbers+16(FP), SI
	MOVQ n+24(FP), CX
	TESTQ CX, CX
	JLE  done

next:
	MOVL (SI), DX
	ADDQ $4, SI
	IMULQ BX, DX
	PREFETCHT0 (AX)(DX*1)
	DECQ CX
	JNE  next

done:
	RET

// func loadChosen(base unsafe.Pointer, size uintptr, numbers *uint32, which *uint8, n int)
TEXT ·loadChosen(SB), NOSPLIT, $0-40
	MOVQ base+0(FP), AX
	MOVQ size+8(FP), BX
	MOVQ numbers+16(FP), SI
	MOVQ which+24(FP), DI
	MOVQ n+32(FP), CX
	TESTQ CX, CX
	JLE  done

next:
	MOVBLZX (DI), DX
	INCQ DI
	MOVL (SI)(DX*4), DX
	IMULQ BX, DX
	PREFETCHT0 (AX)(DX*1)
	DECQ CX
	JNE  next

done:
	RET

// func loadOffsets(base unsafe.Pointer, first *uint64, stride uintptr, n int)
TEXT ·loadOffsets(SB), NOSPLIT, $0-32
	MOVQ base+0(FP), AX
	MOVQ first+8(FP), SI
	MOVQ stride+16(FP), BX
	MOVQ n+24(FP), CX
	TESTQ CX, CX
	JLE  done

next:
	MOVQ (SI), DX
	ADDQ BX, SI
	PREFETCHT0 (AX)(DX*1)
	DECQ CX
	JNE  next

done:
	RET
