#include "go_asm.h"
#include "textflag.h"

// func seeAll(keys *Key, homes, hints *uint32, n int, l *shardLines) (absent uint64)
//
// SI key, DI homes, R8 hints, CX how many are left, DX which one, BX absent; R9 to R12
// what l says.
TEXT ·seeAll(SB), NOSPLIT, $0-48
	MOVQ keys+0(FP), SI
	MOVQ homes+8(FP), DI
	MOVQ hints+16(FP), R8
	MOVQ n+24(FP), CX
	MOVQ l+32(FP), AX
	MOVQ shardLines_buckets(AX), R9
	MOVL shardLines_shard(AX), R10
	MOVL shardLines_index(AX), R11
	MOVL shardLines_slots(AX), R12
	XORL DX, DX
	XORL BX, BX
	TESTQ CX, CX
	JLE  done

next:
	MOVL (DI)(DX*4), R13
	SHLQ $6, R13
	ADDQ R9, R13

	// The tag, in all eight lanes.
	MOVWLZX (Key_hash+2)(SI), AX
	ORL  $1, AX
	MOVL AX, X0
	PUNPCKLWL X0, X0
	PSHUFL $0, X0, X0

	// Bit i of AX is set if place i has it. Behind the tags of places 8 and 9 there is nothing.
	MOVOU (R13), X1
	MOVL 16(R13), X2
	PCMPEQW X0, X1
	PCMPEQW X0, X2
	PACKSSWB X2, X1
	PMOVMSKB X1, AX
	BSFL AX, AX
	JEQ  none

	MOVL (8*const_firstSlots)(R13)(AX*4), AX
	MOVL Key_shard(SI), R13
	DECL AX
	CMPL AX, R12
	JCC  nowhere
	IMULL R10, R13
	ADDL R11, AX
	ADDL R13, AX
	MOVL AX, (R8)(DX*4)

	ADDQ $Key__size, SI
	INCQ DX
	CMPQ DX, CX
	JLT  next
	JMP  done

none:
	CMPL (8*const_passedWord+4)(R13), $0
	JNE  nowhere
	BTSQ DX, BX

nowhere:
	MOVL $0, (R8)(DX*4)
	ADDQ $Key__size, SI
	INCQ DX
	CMPQ DX, CX
	JLT  next

done:
	MOVQ BX, absent+40(FP)
	RET
