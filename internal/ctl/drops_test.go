package ctl

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/fnatd/fnatd/internal/packet"
)

func TestEveryReasonIsExplained(t *testing.T) {
	for _, d := range NewDrops(new([packet.NumReasons]uint64)) {
		if d.Meaning == "" || d.Remedy == "" || strings.Contains(d.Meaning+d.Remedy, "\n") {
			t.Errorf("%s: meaning %q, remedy %q: want one line each", d.Reason, d.Meaning, d.Remedy)
		}
	}
	for _, reason := range []string{RxRingFull, FillRingEmpty, Unserved, Orphaned} {
		if d := NewDrop(reason, 1); d.Meaning == "" || d.Remedy == "" {
			t.Errorf("%s: no explanation", reason)
		}
	}
	if got, want := len(explanations), int(packet.NumReasons)-1+4; got != want {
		t.Errorf("got %d explanations, want one for each of %d reasons", got, want)
	}
}

func TestReadmeExplainsEveryReason(t *testing.T) {
	readme, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	drops := NewDrops(new([packet.NumReasons]uint64))
	for _, reason := range []string{RxRingFull, FillRingEmpty, Unserved, Orphaned} {
		drops = append(drops, NewDrop(reason, 0))
	}
	for _, d := range drops {
		if row := fmt.Sprintf("| `%s` | %s | %s |\n", d.Reason, d.Meaning, d.Remedy); !strings.Contains(string(readme), row) {
			t.Errorf("README.md lacks the row\n%s", row)
		}
	}
}
