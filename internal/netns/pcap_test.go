package netns

import (
	"bytes"
	"errors"
	"io"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/gopacket/gopacket/layers"
	"github.com/gopacket/gopacket/pcapgo"
)

func TestWritePcapIsReadByOthers(t *testing.T) {
	want := []Frame{
		{Time: time.Unix(1_700_000_000, 123_456_000).UTC(), Data: []byte("a first frame")},
		{Time: time.Unix(1_700_000_001, 0).UTC(), Data: bytes.Repeat([]byte{7}, 1514)},
	}
	var file bytes.Buffer
	if err := WritePcap(&file, want); err != nil {
		t.Fatal(err)
	}
	r, err := pcapgo.NewReader(&file)
	if err != nil {
		t.Fatal(err)
	}
	if got := r.LinkType(); got != layers.LinkTypeEthernet {
		t.Errorf("link type: got %v, want Ethernet", got)
	}
	var got []Frame
	for {
		data, info, err := r.ReadPacketData()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		if info.Length != len(data) {
			t.Errorf("length: got %d, want %d", info.Length, len(data))
		}
		got = append(got, Frame{Time: info.Timestamp.UTC(), Data: data})
	}
	if diff := cmp.Diff(got, want); diff != "" {
		t.Errorf("got - want +:\n%s", diff)
	}
}
