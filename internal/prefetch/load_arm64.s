#include "textflag.h"

// func load(line *byte)
TEXT ·load(SB), NOSPLIT, $0-8
	MOVD line+0(FP), R0
	PRFM (R0), PLDL1KEEP
	RET
