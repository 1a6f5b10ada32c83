package state

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"os"
	"time"
)

// The header begins with magic and version, for ever. All else of it has two places, and
// lies in the first if the version is odd, in the second if it is even: a step to the next
// version writes what nobody reads yet, and then the version. Whenever the process ends,
// the state is of the one version or of the other.
const (
	magic      = "fnatd-st"
	versionAt  = len(magic)
	headerSize = 4096
	halfSize   = headerSize / 2
)

// In a version's place: the host's boot, the secrets, and a checksum of magic, version and
// all these. Version 1 and 2 differ only by who has written it, which version 1 does not
// say.
const (
	bootAt    = versionAt + 8
	secretsAt = bootAt + 36
	sumAt     = secretsAt + 32
)

// Who has written it, from version 2 on and for ever at the same place, so that a fnatd
// that does not know the version can tell: build, Unix time, and a checksum of these and
// the version. It decides nothing, and costs nothing if it is damaged.
const (
	writerAt    = halfSize / 2
	timeAt      = writerAt + 64
	writerSumAt = timeAt + 8
)

// The versions that this fnatd can go on with are from oldest to Version.
const oldest = 1

// A Writer is the fnatd that has brought a state to its version: no fnatd that knows the
// version is older.
type Writer struct {
	Build string // "": it is not known
	At    time.Time
}

func (w Writer) String() string {
	if w.Build == "" {
		return "an unknown fnatd"
	}
	return fmt.Sprintf("fnatd %s at %s", w.Build, w.At.UTC().Format(time.DateTime+" MST"))
}

// A VersionError says that a state is whole, and of a version that this fnatd does not
// know.
type VersionError struct {
	Version uint64
	Writer  Writer
}

func (e *VersionError) Error() string {
	return fmt.Sprintf("it is of version %d, written by %v; this fnatd knows %s", e.Version, e.Writer, known())
}

// known lists the versions that this fnatd knows.
func known() string {
	if oldest == Version {
		return fmt.Sprint(Version)
	}
	return fmt.Sprintf("%d to %d", oldest, Version)
}

// Signature returns the version of the state's layout, and who has brought it to that.
func (f *File) Signature() (version uint64, by Writer) {
	version = binary.LittleEndian.Uint64(f.mem[versionAt:])
	return version, writerOf(half(f.mem, version), version)
}

// Convert brings a state of an earlier version to Version, signed by a fnatd of a build,
// and reports whether it was of one. No earlier fnatd can go on with it from then on. The
// connection table is not touched: see conntrack for one that is laid out in another way.
func (f *File) Convert(build string) bool {
	if version, _ := f.Signature(); version == Version {
		return false
	}
	f.sign(build)
	return true
}

// sign writes the header of Version.
func (f *File) sign(build string) {
	h := half(f.mem, Version)
	copy(h[bootAt:secretsAt], boot())
	copy(h[secretsAt:], f.secrets.ISN[:])
	copy(h[secretsAt+16:], f.secrets.Cookie[:])
	binary.LittleEndian.PutUint32(h[sumAt:], sum(Version, h[bootAt:sumAt]))
	clear(h[writerAt:timeAt])
	copy(h[writerAt:timeAt], build)
	binary.LittleEndian.PutUint64(h[timeAt:], uint64(time.Now().Unix()))
	binary.LittleEndian.PutUint32(h[writerSumAt:], sum(Version, h[writerAt:writerSumAt]))
	barrier.Add(1)
	binary.LittleEndian.PutUint64(f.mem[versionAt:], Version)
}

func (f *File) readHeader() error {
	version, by := f.Signature()
	h := half(f.mem, version)
	switch {
	case string(f.mem[:len(magic)]) != magic:
		return errors.New("it is no state of fnatd")
	case (version < oldest || version > Version) && by.Build != "":
		return &VersionError{version, by}
	case version < oldest || version > Version, binary.LittleEndian.Uint32(h[sumAt:]) != sum(version, h[bootAt:sumAt]):
		return errors.New("its header is damaged")
	case !bytes.Equal(h[bootAt:secretsAt], boot()):
		return errors.New("the host was started anew since")
	}
	copy(f.secrets.ISN[:], h[secretsAt:])
	copy(f.secrets.Cookie[:], h[secretsAt+16:])
	return nil
}

// half returns a version's place in the header.
func half(mem []byte, version uint64) []byte {
	if version&1 == 1 {
		return mem[:halfSize:halfSize]
	}
	return mem[halfSize:headerSize:headerSize]
}

// writerOf returns who has written the header of a version in h, if it says so.
func writerOf(h []byte, version uint64) (w Writer) {
	if binary.LittleEndian.Uint32(h[writerSumAt:]) == sum(version, h[writerAt:writerSumAt]) {
		w.Build = string(bytes.TrimRight(h[writerAt:timeAt], "\x00"))
		w.At = time.Unix(int64(binary.LittleEndian.Uint64(h[timeAt:])), 0)
	}
	return w
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// sum returns the checksum of magic, a version, and what belongs to it.
func sum(version uint64, b []byte) uint32 {
	front := binary.LittleEndian.AppendUint64([]byte(magic), version)
	return crc32.Update(crc32.Checksum(front, castagnoli), castagnoli, b)
}

// bootID is where the kernel says so.
var bootID = "/proc/sys/kernel/random/boot_id"

// boot names the run of the host: connections of an earlier one are long gone.
func boot() []byte {
	id := make([]byte, secretsAt-bootAt)
	b, _ := os.ReadFile(bootID)
	copy(id, b)
	return id
}
