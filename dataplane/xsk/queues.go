package xsk

import (
	"errors"
	"fmt"
	"unsafe"

	"golang.org/x/sys/unix"
)

// ethtoolChannels is struct ethtool_channels of linux/ethtool.h.
type ethtoolChannels struct {
	cmd                                         uint32
	maxRX, maxTX, maxOther, maxCombined         uint32
	countRX, countTX, countOther, countCombined uint32
}

// ifreqData is struct ifreq with a pointer in its union.
type ifreqData struct {
	name [unix.IFNAMSIZ]byte
	data unsafe.Pointer
	_    [16]byte
}

// Queues returns how many receive queues of the named interface are in use
// (ETHTOOL_GCHANNELS). An interface whose driver does not tell has one.
func Queues(name string) (int, error) {
	channels := ethtoolChannels{cmd: unix.ETHTOOL_GCHANNELS}
	err := ethtool(name, unsafe.Pointer(&channels))
	switch {
	case errors.Is(err, unix.EOPNOTSUPP):
		return 1, nil
	case err != nil:
		return 0, fmt.Errorf("queues: %w", err)
	}
	return max(int(channels.countCombined+channels.countRX), 1), nil
}

// ethtool asks the named interface's driver what the struct at data says, and has
// the answer written there (SIOCETHTOOL).
func ethtool(name string, data unsafe.Pointer) error {
	request := ifreqData{data: data}
	if len(name) >= len(request.name) {
		return unix.ENODEV
	}
	copy(request.name[:], name)
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), unix.SIOCETHTOOL, uintptr(unsafe.Pointer(&request))); errno != 0 {
		return errno
	}
	return nil
}
