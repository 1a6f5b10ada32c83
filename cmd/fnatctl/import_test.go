package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/fnatd/fnatd/internal/cli"
)

// TestImport runs import in testdata and compares standard output, then standard
// error, with a golden file.
func TestImport(t *testing.T) {
	for name, test := range map[string]struct {
		args []string
		code int
	}{
		"import":                   {[]string{"keepalived.conf", "--local-pool", "10.9.0.1-10.9.0.4,fd00::9", "--interface", "eth0"}, cli.OK},
		"import_without_options":   {[]string{"keepalived.conf"}, cli.Failure},
		"import_of_dr":             {[]string{"dr.conf", "--local-pool", "10.9.0.1", "--interface", "eth0"}, cli.Failure},
		"import_of_dr_converted":   {[]string{"dr.conf", "--local-pool", "10.9.0.1", "--interface", "eth0", "--convert"}, cli.OK},
		"import_of_nothing":        {nil, cli.Usage},
		"import_of_a_missing_file": {[]string{"none.conf"}, cli.Failure},
	} {
		t.Run(name, func(t *testing.T) {
			args := []string{"import"}
			for _, a := range test.args {
				if strings.HasSuffix(a, ".conf") {
					a = "testdata/" + a
				}
				args = append(args, a)
			}
			code, stdout, stderr := fnatctl(args...)
			if code != test.code {
				t.Errorf("got exit code %d (%s), want %d", code, stderr, test.code)
			}
			golden(t, stdout+"---\n"+stderr)
		})
	}
}

func TestImportToAFile(t *testing.T) {
	args := []string{"import", "testdata/keepalived.conf", "--local-pool", "10.9.0.1", "--interface", "eth0"}
	code, want, _ := fnatctl(args...)
	output := filepath.Join(t.TempDir(), "lb.toml")
	code2, stdout, _ := fnatctl(append(args, "-o", output)...)
	got, err := os.ReadFile(output)
	if code != cli.OK || code2 != cli.OK || err != nil || stdout != "" || string(got) != want {
		t.Errorf("got codes %d and %d, error %v, %q on standard output, file\n%s\nwant\n%s", code, code2, err, stdout, got, want)
	}
	_, stdout, _ = fnatctl(append(args, "--json")...)
	var answer struct{ TOML string }
	if err := json.Unmarshal([]byte(stdout), &answer); err != nil || answer.TOML != want {
		t.Errorf("--json: got %s, error %v, want the same TOML", stdout, err)
	}

	// What cannot be imported leaves the file as it was.
	if code, _, _ := fnatctl("import", "testdata/dr.conf", "-o", output); code != cli.Failure {
		t.Errorf("got exit code %d, want %d", code, cli.Failure)
	}
	if after, _ := os.ReadFile(output); string(after) != want {
		t.Errorf("a failed import has changed the file:\n%s", after)
	}
	left, _ := os.ReadDir(filepath.Dir(output))
	if len(left) != 1 {
		t.Errorf("got files %v, want lb.toml alone", left)
	}
}
