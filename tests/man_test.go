package tests

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// command is a line of --help that names a command.
var command = regexp.MustCompile(`(?m)^  ([a-z]+) +[A-Z]`)

// TestEveryCommandHasAPage makes the manual and compares it with what the programs
// say of themselves.
func TestEveryCommandHasAPage(t *testing.T) {
	dir := t.TempDir()
	for _, program := range []string{"fnatctl", "fnatrs"} {
		out, err := exec.Command("go", "run", "-buildvcs=false", "-tags", "man", "../cmd/"+program, "man", dir).CombinedOutput()
		if err != nil {
			t.Fatalf("%s: %v\n%s", program, err, out)
		}
		help, err := exec.Command(filepath.Join(bin, program), "--help").Output()
		if err != nil {
			t.Fatal(err)
		}
		commands := command.FindAllStringSubmatch(string(help), -1)
		if len(commands) < 4 {
			t.Fatalf("%s --help: got %d commands", program, len(commands))
		}
		for _, c := range commands {
			name := c[1]
			if name == "completion" || name == "help" {
				continue
			}
			page, err := os.ReadFile(filepath.Join(dir, program+"-"+name+".8"))
			if err != nil || !strings.Contains(string(page), program+" "+name) {
				t.Errorf("page of %s %s: %v", program, name, err)
			}
		}
		if _, err := exec.Command(filepath.Join(bin, program), "man", dir).Output(); err == nil {
			t.Errorf("%s itself makes pages: what makes them is in the program", program)
		}
	}
}

// TestPageOfFnatdHasEveryFlag compares the page that is written by hand.
func TestPageOfFnatdHasEveryFlag(t *testing.T) {
	page, err := os.ReadFile("../dist/fnatd.8")
	if err != nil {
		t.Fatal(err)
	}
	help, _ := exec.Command(filepath.Join(bin, "fnatd"), "-h").CombinedOutput()
	flags := regexp.MustCompile(`(?m)^  -([a-z]+)`).FindAllStringSubmatch(string(help), -1)
	if len(flags) != 3 {
		t.Fatalf("fnatd -h: got flags %q, want 3", flags)
	}
	for _, f := range flags {
		if !strings.Contains(string(page), `\-`+f[1]) {
			t.Errorf("fnatd.8 lacks -%s", f[1])
		}
	}
}
