// Package state is the memory of fnatd that outlives its process: a file, mapped, that
// the next fnatd finds and goes on with. It holds the connection table, which lays
// itself out; the secrets that must stay the same; and notes, which are what the
// rest of fnatd wants to remember.
//
//	0          header, twice: what follows, and the secrets
//	4 KiB      notes, twice: the older of them is overwritten
//	2 MiB * n  connection table
package state

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// Our choices.
const (
	notesSize = 4<<20 - headerSize/2 // of each: more than 10,000 real servers
	tableAt   = 8 << 20
	hugePage  = 2 << 20
)

// Secrets are random, and stay the same while connections that know them live.
type Secrets struct {
	ISN    [16]byte // of initial sequence numbers
	Cookie [16]byte // of SYN cookies, if none is configured
}

// ErrInUse is what Open returns if another process has the file.
var ErrInUse = errors.New("another fnatd uses it")

// A File is the state. Its methods are for one goroutine at a time, but for those that
// only tell what was settled when it was opened.
type File struct {
	path    string // "": it has no name, and ends with the last process that has it
	file    *os.File
	mem     []byte
	secrets Secrets
	serial  uint64 // of the notes written last
}

// Open opens the state at path. Unless the error is fs.ErrNotExist or ErrInUse it says
// why what is there cannot be used, and that nothing has changed. A state of an earlier
// version stays as it is until Convert.
func Open(path string) (*File, error) {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return nil, err
	}
	return open(f, path)
}

// Inherit is Open for a descriptor that another process has passed on. It takes f over.
func Inherit(f *os.File, path string) (*File, error) { return open(f, path) }

func open(f *os.File, path string) (*File, error) {
	s := &File{path: path, file: f}
	if err := s.takeOver(); err != nil {
		s.Close()
		return nil, err
	}
	return s, nil
}

func (f *File) takeOver() error {
	if err := f.lock(); err != nil {
		return err
	}
	info, err := f.file.Stat()
	if err != nil {
		return err
	}
	if !info.Mode().IsRegular() {
		return errors.New("not a file")
	}
	if info.Size() <= tableAt {
		return fmt.Errorf("%d bytes are too few: it was cut off", info.Size())
	}
	if err := f.mapIn(int(info.Size())); err != nil {
		return err
	}
	return f.readHeader()
}

// lock makes this process, and whom it passes the descriptor to, the only ones.
func (f *File) lock() error {
	err := unix.Flock(int(f.file.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	if errors.Is(err, unix.EWOULDBLOCK) {
		return ErrInUse
	}
	return err
}

// Size returns how many bytes a state takes with a table of so many.
func Size(table int) int { return tableAt + (table+hugePage-1)&^(hugePage-1) }

// Create makes a new state with a table of so many bytes, zeroed. Nobody finds it at
// path before Publish. With no path it lies in memory without a name, and in huge pages
// if the host has set enough aside. It is signed by a fnatd of a build.
func Create(path string, table int, secrets Secrets, build string) (*File, error) {
	size := Size(table)
	f := &File{path: path, secrets: secrets}
	err := f.make(size)
	if err == nil {
		err = f.mapIn(size)
	}
	if err == nil && path != "" {
		err = f.fill(size)
	}
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("%d MiB for the state: %w", size>>20, err)
	}
	copy(f.mem, magic)
	f.sign(build)
	return f, nil
}

// make makes the file that the state lies in, of a size.
func (f *File) make(size int) (err error) {
	if f.path == "" {
		return f.anonymous(size)
	}
	if err := os.MkdirAll(filepath.Dir(f.path), 0o755); err != nil {
		return err
	}
	if f.file, err = os.OpenFile(f.path+".new", os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o600); err != nil {
		return err
	}
	if err := f.lock(); err != nil {
		return err
	}
	return f.file.Truncate(int64(size))
}

// fill gives the file all its memory now, or a write to it would end the process when
// there is no more.
func (f *File) fill(size int) error {
	err := unix.Fallocate(int(f.file.Fd()), 0, 0, int64(size))
	switch {
	case errors.Is(err, unix.ENOSPC):
		return fmt.Errorf("%s: %w (lower max_connections, or make room on the file system)", f.path, err)
	case errors.Is(err, unix.EOPNOTSUPP):
		return nil
	case err == nil:
		_ = unix.Madvise(f.mem, unix.MADV_POPULATE_WRITE) // since Linux 5.14; else page by page
	}
	return err
}

func (f *File) anonymous(size int) error {
	for _, flags := range []int{unix.MFD_HUGETLB | unix.MFD_HUGE_2MB, 0} {
		fd, err := unix.MemfdCreate("fnatd-state", unix.MFD_CLOEXEC|flags)
		if err != nil {
			continue
		}
		f.file = os.NewFile(uintptr(fd), "fnatd-state")
		if err = f.file.Truncate(int64(size)); err == nil {
			// Huge pages that are not there show here, and not in a signal later.
			var mem []byte
			if mem, err = unix.Mmap(fd, 0, size, unix.PROT_READ, unix.MAP_SHARED); err == nil {
				return unix.Munmap(mem)
			}
		}
		f.file.Close()
		f.file = nil
	}
	return errors.New("memfd_create or mmap failed (lower max_connections)")
}

// Publish puts the state where Open finds it, in place of what is there.
func (f *File) Publish() error {
	if f.path == "" {
		return nil
	}
	return os.Rename(f.path+".new", f.path)
}

// Remove takes the state away from where Open finds it.
func (f *File) Remove() error {
	if f.path == "" {
		return nil
	}
	err := os.Remove(f.path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// Close gives the memory back; nothing of Table may be used after. The file stays.
func (f *File) Close() (err error) {
	if f.mem != nil {
		err = f.unmap()
	}
	if f.file != nil {
		err = errors.Join(err, f.file.Close())
		f.file = nil
	}
	return err
}

// Path returns where the state lies; "" is nowhere.
func (f *File) Path() string { return f.path }

// Size returns how many bytes the state takes.
func (f *File) Size() int { return len(f.mem) }

// Duplicate returns another descriptor of the state, for Inherit.
func (f *File) Duplicate() (*os.File, error) {
	fd, err := unix.FcntlInt(f.file.Fd(), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	return os.NewFile(uintptr(fd), f.file.Name()), nil
}

// Touch reads something of every page, which in a virtual machine can take 10 µs for
// each, so that whoever adopts the table need not wait for them.
func (f *File) Touch() (sum byte) {
	for at := 0; at < len(f.mem); at += os.Getpagesize() {
		sum += f.mem[at]
	}
	return sum
}

// Secrets returns those that the state was made with.
func (f *File) Secrets() Secrets { return f.secrets }

// Table returns the memory of the connection table.
func (f *File) Table() []byte { return f.mem[tableAt:] }
