package state

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
	"unsafe"
)

func mustCreate(t *testing.T, path string) *File {
	t.Helper()
	f, err := Create(path, 1<<20, Secrets{ISN: [16]byte{1, 2}, Cookie: [16]byte{3}}, "test")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}

func TestFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "new", "state")
	f := mustCreate(t, path)
	if _, err := Open(path); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("before Publish: %v, want that there is none", err)
	}
	if err := f.Publish(); err != nil {
		t.Fatal(err)
	}
	if n := len(f.Table()); n < 1<<20 || !bytes.Equal(f.Table(), make([]byte, n)) {
		t.Errorf("table of %d bytes, want a MiB of zeros", n)
	}
	f.Table()[77] = 78
	if _, err := Open(path); !errors.Is(err, ErrInUse) {
		t.Errorf("second Open: %v, want %v", err, ErrInUse)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	again, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer again.Close()
	if again.Secrets() != (Secrets{ISN: [16]byte{1, 2}, Cookie: [16]byte{3}}) || again.Table()[77] != 78 {
		t.Error("secrets or table are others than before")
	}
	if err := again.Remove(); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(path); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("after Remove: %v", err)
	}
}

func TestWithoutAName(t *testing.T) {
	f := mustCreate(t, "")
	if err := errors.Join(f.Publish(), f.Remove()); err != nil {
		t.Error(err)
	}
	f.Table()[0] = 9
	passed, err := f.Duplicate()
	if err != nil {
		t.Fatal(err)
	}
	heir, err := Inherit(passed, "")
	if err != nil {
		t.Fatal(err)
	}
	defer heir.Close()
	if heir.Table()[0] != 9 {
		t.Error("the heir has another table")
	}
}

func TestNotes(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state")
	f := mustCreate(t, path)
	if err := f.Publish(); err != nil {
		t.Fatal(err)
	}
	if b, damaged := f.Notes(); b != nil || damaged != nil {
		t.Errorf("none yet: got %q, %v", b, damaged)
	}
	for i, s := range []string{"one", "two, longer", "", "three"} {
		if err := f.WriteNotes([]byte(s)); err != nil {
			t.Fatal(err)
		}
		if b, damaged := f.Notes(); string(b) != s || damaged != nil {
			t.Errorf("notes %d: got %q, %v, want %q", i, b, damaged, s)
		}
	}
	if err := f.WriteNotes(make([]byte, notesSize)); !errors.Is(err, ErrNotesTooLong) {
		t.Errorf("too long: %v", err)
	}
	// The last ones are damaged: the ones before are still there.
	last := f.place(f.serial)
	for _, at := range []int{serialAt, lengthAt, lengthAt + 7, checksumAt, notesHeader} {
		last[at] ^= 1
		if b, damaged := f.Notes(); string(b) != "" || damaged == nil {
			t.Errorf("byte %d damaged: got %q, %v, want the empty ones before and that some are damaged", at, b, damaged)
		}
		last[at] ^= 1
	}
	// As if the process had ended in the middle of writing.
	clear(last[serialAt : serialAt+8])
	if b, damaged := f.Notes(); b == nil || string(b) != "" || damaged != nil {
		t.Errorf("half written: got %q, %v, want the ones before", b, damaged)
	}
}

// Each bit of the header says no or says nothing; each of the notes loses these at most,
// and never those before.
func TestFlippedBits(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state")
	f := mustCreate(t, path)
	long := bytes.Repeat([]byte("remember me "), 200)
	if err := errors.Join(f.WriteNotes(long[1:]), f.WriteNotes(long), f.Publish()); err != nil {
		t.Fatal(err)
	}
	for bit := range 8 * headerSize {
		f.mem[bit/8] ^= 1 << (bit % 8)
		at := bit / 8 % halfSize
		inPlace := uint64(bit/8/halfSize) == (Version+1)%2
		used := bit/8 < bootAt || inPlace && at >= bootAt && at < sumAt+4
		err := f.readHeader()
		if _, isNews := err.(*VersionError); (err != nil) != used || isNews {
			t.Fatalf("bit %d of the header: %v", bit, err)
		}
		inWriter := inPlace && at >= writerAt && at < writerSumAt+4
		if _, by := f.Signature(); err == nil && (by.Build == "") != inWriter {
			t.Fatalf("bit %d of the header: written by %v", bit, by)
		}
		f.mem[bit/8] ^= 1 << (bit % 8)
	}
	r := rand.New(rand.NewPCG(1, 2))
	at := f.place(2)
	for i := range 10_000 {
		bit := i
		if i >= 8*notesHeader { // all of their header, and then anywhere
			bit = r.IntN(8 * (notesHeader + len(long) + 100))
		}
		at[bit/8] ^= 1 << (bit % 8)
		b, damaged := f.Notes()
		if !bytes.Equal(b, long) && !(bytes.Equal(b, long[1:]) && (damaged != nil || binary.LittleEndian.Uint64(at) == 0)) {
			t.Fatalf("bit %d: got %d bytes, %v, want these notes or, and told so, those before", bit, len(b), damaged)
		}
		at[bit/8] ^= 1 << (bit % 8)
	}
}

// FuzzHeader reads what may be anything: it is of a version that is known, or there is an
// error, and what can be read can be converted.
func FuzzHeader(f *testing.F) {
	file, err := Create("", 0, Secrets{ISN: [16]byte{1}}, "test")
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() { file.Close() })
	f.Add(bytes.Clone(file.mem[:headerSize]))
	f.Add(later(bytes.Clone(file.mem[:headerSize])))
	f.Add([]byte(magic))
	f.Fuzz(func(t *testing.T, header []byte) {
		clear(file.mem[copy(file.mem[:headerSize], header):headerSize])
		err := file.readHeader()
		if version, _ := file.Signature(); err == nil && (version < oldest || version > Version) {
			t.Errorf("version %d is read", version)
		}
		if err != nil {
			return
		}
		secrets := file.secrets
		file.Convert("fuzzed")
		err = file.readHeader()
		if version, _ := file.Signature(); err != nil || version != Version || file.secrets != secrets {
			t.Errorf("after a conversion: version %d, %v", version, err)
		}
	})
}

func TestOpenRefuses(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "state")
	f := mustCreate(t, path)
	if err := errors.Join(f.Publish(), f.Close()); err != nil {
		t.Fatal(err)
	}
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		name, want string
		spoil      func([]byte) []byte
	}{
		{"empty", "cut off", func(b []byte) []byte { return nil }},
		{"cut off", "cut off", func(b []byte) []byte { return b[:tableAt] }},
		{"something else", "no state of fnatd", func(b []byte) []byte { b[0] = 'x'; return b }},
		{"a later version", "of version 3, written by fnatd v3.1 at 2026-12-24 18:00:00 UTC; this fnatd knows 1 to 2", later},
		{"a version that nobody has written", "header is damaged", func(b []byte) []byte { b[versionAt] = 3; return b }},
		{"no version", "header is damaged", func(b []byte) []byte { b[versionAt] = 0; return b }},
		{"another boot", "header is damaged", func(b []byte) []byte { half(b, Version)[bootAt] ^= 1; return b }},
		{"secret", "header is damaged", func(b []byte) []byte { half(b, Version)[secretsAt+20] ^= 1; return b }},
		{"checksum", "header is damaged", func(b []byte) []byte { half(b, Version)[sumAt] ^= 1; return b }},
	} {
		t.Run(tc.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "state")
			spoiled := tc.spoil(slices.Clone(whole))
			if err := os.WriteFile(path, spoiled, 0o600); err != nil {
				t.Fatal(err)
			}
			if _, err := Open(path); err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("got %v, want %q", err, tc.want)
			}
			if is, err := os.ReadFile(path); err != nil || !bytes.Equal(is, spoiled) {
				t.Errorf("the file has changed: %v", err)
			}
		})
	}
	if _, err := Open(dir); err == nil {
		t.Error("a directory was opened")
	}
}

// later makes of a state one of version 3, of which no more is known than who has written it.
func later(b []byte) []byte {
	binary.LittleEndian.PutUint64(b[versionAt:], 3)
	h := half(b, 3)
	copy(h[writerAt:], "v3.1")
	binary.LittleEndian.PutUint64(h[timeAt:], uint64(time.Date(2026, 12, 24, 18, 0, 0, 0, time.UTC).Unix()))
	binary.LittleEndian.PutUint32(h[writerSumAt:], sum(3, h[writerAt:writerSumAt]))
	return b
}

// What is in the table stays while its pages are gathered, wherever the file lies.
func TestGather(t *testing.T) {
	f, err := Create(filepath.Join(t.TempDir(), "state"), 4*hugePage, Secrets{}, "test")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	table := f.Table()
	r := rand.New(rand.NewPCG(1, 2))
	for at := range table {
		table[at] = byte(r.Uint32())
	}
	want := bytes.Clone(table)
	f.Gather(make(chan struct{}))
	if !bytes.Equal(table, want) {
		t.Error("the table has changed")
	}
	if at := uintptr(unsafe.Pointer(&f.mem[0])); at%hugePage != 0 {
		t.Errorf("mapped at %#x, want it where huge pages can be", at)
	}
}
