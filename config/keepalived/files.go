package keepalived

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
)

// Bounds. A file within them is one that somebody wrote; beyond them it is one
// that would use up the memory.
const (
	maxFile    = 32 << 20 // bytes of a file
	maxDepth   = 32       // variables in variables, files in files, blocks in blocks
	maxLine    = 64 << 10 // bytes of a line after its variables are replaced
	maxLines   = 2 << 20  // lines after everything is replaced
	maxEntries = 1 << 18  // real servers and addresses of services that come of them
)

// limits are the bounds of one import; tests set lower ones.
type limits struct {
	lines   int // after everything is replaced
	bytes   int
	entries int
}

// files is where the contents of included files come from.
type files struct {
	read func(path string) ([]byte, error)
	glob func(pattern string) ([]string, error)
	limits
}

// system is the files of the host.
var system = files{
	read:   readFile,
	glob:   filepath.Glob, // sorted
	limits: limits{lines: maxLines, bytes: 8 * maxFile, entries: maxEntries},
}

// readFile returns what a regular file holds.
func readFile(path string) ([]byte, error) {
	info, err := os.Stat(path) // before it is opened: to open a pipe would wait for a writer
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%s: not a regular file", path)
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err == nil && len(data) > maxFile {
		return nil, fmt.Errorf("%s: more than %d MiB (split it)", path, maxFile>>20)
	}
	return data, err
}
