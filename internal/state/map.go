package state

import (
	"errors"
	"fmt"
	"os"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Of pages of 4 KiB each costs 10 µs in a virtual machine when a process touches it first,
// whether or not it is mapped already: a quarter of a second for a million connections, in
// which a fnatd that has just started forwards nothing. So the table lies in huge pages
// wherever the kernel can be brought to it, and is mapped where such can be used.

// mapIn maps the file.
func (f *File) mapIn(size int) error {
	// An address of which a huge page can be mapped has to be looked for by hand: the
	// kernel gives one only on a tmpfs that is mounted with huge pages.
	room, err := unix.MmapPtr(-1, 0, nil, uintptr(size+hugePage), unix.PROT_NONE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS|unix.MAP_NORESERVE)
	if err != nil {
		return fmt.Errorf("mmap: %w", err)
	}
	before := -uintptr(room) & (hugePage - 1)
	at := unsafe.Add(room, before)
	_, err = unix.MmapPtr(int(f.file.Fd()), 0, at, uintptr(size), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED|unix.MAP_FIXED)
	if err != nil { // the file's pages may be larger yet
		err = unix.MunmapPtr(room, uintptr(size+hugePage))
		if at, other := unix.MmapPtr(int(f.file.Fd()), 0, nil, uintptr(size), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED); other == nil {
			f.mem = unsafe.Slice((*byte)(at), size)
		} else {
			err = fmt.Errorf("mmap: %w", errors.Join(other, err))
		}
		return err
	}
	f.mem = unsafe.Slice((*byte)(at), size)
	if before > 0 {
		err = unix.MunmapPtr(room, before)
	}
	page := os.Getpagesize()
	end := (size + page - 1) &^ (page - 1)
	err = errors.Join(err, unix.MunmapPtr(unsafe.Add(at, end), hugePage-before-uintptr(end-size)))
	if err != nil {
		return fmt.Errorf("munmap: %w", err)
	}
	_ = unix.Madvise(f.mem[tableAt:], unix.MADV_HUGEPAGE) // a host that has none to give is no error
	return nil
}

// unmap is the inverse of mapIn.
func (f *File) unmap() error {
	mem := f.mem
	f.mem = nil
	return unix.MunmapPtr(unsafe.Pointer(unsafe.SliceData(mem)), uintptr(len(mem)))
}

// Gather has the table lie in huge pages also on a tmpfs that is not mounted with them
// (since Linux 6.1; anywhere else nothing happens), one after another until stop is
// closed. Whoever touches a page meanwhile may wait some milliseconds.
func (f *File) Gather(stop <-chan struct{}) {
	for at := tableAt; at+hugePage <= len(f.mem); at += hugePage {
		began := time.Now()
		if unix.Madvise(f.mem[at:at+hugePage], unix.MADV_COLLAPSE) != nil {
			return
		}
		select {
		case <-stop:
			return
		case <-time.After(time.Since(began)): // half of the time is others'
		}
	}
}
