package health

import (
	"context"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
)

// File is the check of a number in a file, which somebody else writes, as the
// track files of keepalived: 0 passes and anything else fails. If it is dynamic,
// the number times Factor is added to the weight instead.
type File struct {
	Path    string
	Dynamic bool
	Factor  int
}

// maxNumber is how long a file with a number may be.
const maxNumber = 64 // bytes

func (f *File) String() string { return "file " + f.Path }

// Probe implements Probe. What is no regular file, such as a pipe that nobody
// writes to, would hold it up, and is refused.
func (f *File) Probe(context.Context, Endpoint) (Result, error) {
	info, err := os.Stat(f.Path)
	if err != nil {
		return Result{}, err
	}
	if !info.Mode().IsRegular() {
		return Result{}, fmt.Errorf("%s: not a regular file", f.Path)
	}
	file, err := os.Open(f.Path)
	if err != nil {
		return Result{}, err
	}
	defer file.Close()
	text, err := io.ReadAll(io.LimitReader(file, maxNumber))
	if err != nil {
		return Result{}, err
	}
	n, err := strconv.ParseInt(strings.TrimSpace(string(text)), 10, 32)
	switch {
	case err != nil:
		return Result{}, fmt.Errorf("%s: %q is not a number", f.Path, strings.TrimSpace(string(text)))
	case f.Dynamic:
		return Result{Weighted: true, Relative: true, Weight: bound(int(n), maxWeight) * f.Factor}, nil
	case n != 0:
		return Result{}, fmt.Errorf("%s: holds %d", f.Path, n)
	}
	return Result{}, nil
}

func bound(n, most int) int { return min(max(n, -most), most) }

// maxWeight is the largest weight that a real server may have.
const maxWeight = 65535
