package xsk

import (
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
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return 0, fmt.Errorf("queues: %w", err)
	}
	defer unix.Close(fd)
	channels := ethtoolChannels{cmd: unix.ETHTOOL_GCHANNELS}
	request := ifreqData{data: unsafe.Pointer(&channels)}
	if len(name) >= len(request.name) {
		return 0, fmt.Errorf("queues: %w", unix.ENODEV)
	}
	copy(request.name[:], name)
	_, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), unix.SIOCETHTOOL, uintptr(unsafe.Pointer(&request)))
	switch {
	case errno == unix.EOPNOTSUPP:
		return 1, nil
	case errno != 0:
		return 0, fmt.Errorf("queues: %w", errno)
	}
	return max(int(channels.countCombined+channels.countRX), 1), nil
}
