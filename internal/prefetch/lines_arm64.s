#include "textflag.h"

// func load(lines *uintptr, n int)
TEXT ·load(SB), NOSPLIT, $0-16
	MOVD lines+0(FP), R0
	MOVD n+8(FP), R1
	ADD  R1<<3, R0, R1

next:
	CMP  R0, R1
	BEQ  done
	MOVD.P 8(R0), R2
	PRFM (R2), PLDL1KEEP
	B    next

done:
	RET

// func loadNumbers(base unsafe.Pointer, size uintptr, numbers *uint32, n int)
TEXT ·loadNumbers(SB), NOSPLIT, $0-32
	MOVD base+0(FP), R0
	MOVD size+8(FP), R1
	MOVD numbers+16(FP), R2
	MOVD n+24(FP), R3

next:
	CMP  $0, R3
	BLE  done
	MOVWU.P 4(R2), R4
	MADD R1, R0, R4, R4
	PRFM (R4), PLDL1KEEP
	SUB  $1, R3
	B    next

done:
	RET

// func loadChosen(base unsafe.Pointer, size uintptr, numbers *uint32, which *uint8, n int)
TEXT ·loadChosen(SB), NOSPLIT, $0-40
	MOVD base+0(FP), R0
	MOVD size+8(FP), R1
	MOVD numbers+16(FP), R2
	MOVD which+24(FP), R5
	MOVD n+32(FP), R3

next:
	CMP  $0, R3
	BLE  done
	MOVBU.P 1(R5), R4
	ADD  R4<<2, R2, R4
	MOVWU (R4), R4
	MADD R1, R0, R4, R4
	PRFM (R4), PLDL1KEEP
	SUB  $1, R3
	B    next

done:
	RET

// func loadOffsets(base unsafe.Pointer, first *uint64, stride uintptr, n int)
TEXT ·loadOffsets(SB), NOSPLIT, $0-32
	MOVD base+0(FP), R0
	MOVD first+8(FP), R2
	MOVD stride+16(FP), R1
	MOVD n+24(FP), R3

next:
	CMP  $0, R3
	BLE  done
	MOVD (R2), R4
	ADD  R1, R2
	ADD  R0, R4
	PRFM (R4), PLDL1KEEP
	SUB  $1, R3
	B    next

done:
	RET
