package netns

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"io"
	"os"
	"testing"
)

// The classic pcap format (draft-ietf-opsawg-pcap, sections 4 and 5).
const (
	pcapMagic    = 0xa1b2c3d4 // times in microseconds
	pcapEthernet = 1          // LINKTYPE_ETHERNET
	pcapSnapLen  = 1 << 18
)

// WritePcap writes frames as a file for tcpdump and wireshark.
func WritePcap(w io.Writer, frames []Frame) error {
	b := bufio.NewWriter(w)
	header := []any{uint32(pcapMagic), uint16(2), uint16(4), uint64(0), uint32(pcapSnapLen), uint32(pcapEthernet)}
	for _, field := range header {
		if err := binary.Write(b, binary.LittleEndian, field); err != nil {
			return err
		}
	}
	for _, f := range frames {
		record := [4]uint32{
			uint32(f.Time.Unix()), uint32(f.Time.Nanosecond() / 1000),
			uint32(len(f.Data)), uint32(len(f.Data)),
		}
		if err := binary.Write(b, binary.LittleEndian, record); err != nil {
			return err
		}
		if _, err := b.Write(f.Data); err != nil {
			return err
		}
	}
	return b.Flush()
}

// CheckCapture fails a test if frames are not those of the capture file golden. With update it
// writes the file instead.
func CheckCapture(t testing.TB, golden string, frames []Frame, update bool) {
	t.Helper()
	var got bytes.Buffer
	if err := WritePcap(&got, frames); err != nil {
		t.Fatal(err)
	}
	if update {
		if err := os.WriteFile(golden, got.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got.Bytes(), want) {
		t.Errorf("frames differ from %s: if they should, run the test with -update, and read what tcpdump -nvr says of it", golden)
	}
}
