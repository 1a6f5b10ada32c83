#include "textflag.h"

// func load(line *byte)
TEXT ·load(SB), NOSPLIT, $0-8
	MOVQ line+0(FP), AX
	PREFETCHT0 (AX)
	RET
