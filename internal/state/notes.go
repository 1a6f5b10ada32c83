package state

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"sync/atomic"
)

// There are two places for notes, and the older ones are overwritten: whenever the
// process ends, the other ones are whole. Each begins with the notes' serial number, how
// long they are, and a checksum.
const (
	serialAt    = 0
	lengthAt    = 8
	checksumAt  = 16
	notesHeader = 24
)

// ErrNotesTooLong is what WriteNotes returns for notes that it has no room for.
var ErrNotesTooLong = fmt.Errorf("notes are longer than %d bytes", notesSize-notesHeader)

// place returns the place of the notes with a serial number.
func (f *File) place(serial uint64) []byte {
	at := headerSize + int(serial&1)*notesSize
	return f.mem[at : at+notesSize : at+notesSize]
}

// WriteNotes replaces the notes. If the process ends meanwhile, the last ones stay.
func (f *File) WriteNotes(b []byte) error {
	if len(b) > notesSize-notesHeader {
		return ErrNotesTooLong
	}
	serial := f.serial + 1
	at := f.place(serial)
	binary.LittleEndian.PutUint64(at[serialAt:], 0) // neither old nor new from here on
	barrier.Add(1)
	copy(at[notesHeader:], b)
	binary.LittleEndian.PutUint64(at[lengthAt:], uint64(len(b)))
	binary.LittleEndian.PutUint32(at[checksumAt:], crc32.Checksum(b, castagnoli))
	barrier.Add(1)
	binary.LittleEndian.PutUint64(at[serialAt:], serial)
	f.serial = serial
	return nil
}

// barrier keeps stores in order: no compiler or processor moves them over an atomic
// addition.
var barrier atomic.Uint32

// Notes returns a copy of the notes written last, or nil if there are none that are
// whole; damaged reports whether there were others.
func (f *File) Notes() (b []byte, damaged error) {
	f.serial = 0
	for parity := range uint64(2) {
		at := f.place(parity)
		serial := binary.LittleEndian.Uint64(at[serialAt:])
		if serial == 0 {
			continue
		}
		n := binary.LittleEndian.Uint64(at[lengthAt:])
		if serial&1 != parity || n > uint64(len(at)-notesHeader) ||
			binary.LittleEndian.Uint32(at[checksumAt:]) != crc32.Checksum(at[notesHeader:notesHeader+n], castagnoli) {
			damaged = errors.New("notes are damaged")
			continue
		}
		if serial > f.serial {
			f.serial, b = serial, bytes.Clone(at[notesHeader:notesHeader+n])
		}
	}
	return b, damaged
}
