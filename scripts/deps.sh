#!/usr/bin/env bash
# deps.sh test|bench|generate: see to the programs that make needs besides Go and git.
#
# What is there already is left alone, so a second run does nothing. What is
# missing is installed by root on Debian and Ubuntu; anybody else is told its
# names, and the exit code is 1.
set -euo pipefail

PATH=$PATH:/usr/sbin:/sbin

# package=program or file by which it is known to be there
case "${1:-}" in
test)
	needs=(gcc=cc libc6-dev=/usr/include/stdio.h iproute2=ip iputils-ping=ping nftables=nft python3=python3 curl=curl nginx-light=nginx iperf3=iperf3 dnsperf=dnsperf unbound=unbound bird2=bird)
	;;
bench)
	needs=(iproute2=ip util-linux=unshare nftables=nft haproxy=haproxy nginx-light=nginx libnginx-mod-stream=/usr/lib/nginx/modules/ngx_stream_module.so)
	;;
generate)
	needs=(clang-14=clang-14 llvm-14=llvm-strip-14 libbpf-dev=/usr/include/bpf/bpf_helpers.h linux-libc-dev=/usr/include/linux/bpf.h)
	;;
*)
	echo "usage: $0 test|bench|generate" >&2
	exit 2
	;;
esac

missing=()
for need in "${needs[@]}"; do
	what=${need#*=}
	command -v "$what" >/dev/null || [ -e "$what" ] || missing+=("${need%=*}")
done
[ ${#missing[@]} -gt 0 ] || exit 0

if [ "$(id -u)" -ne 0 ] || ! command -v apt-get >/dev/null; then
	echo "missing: ${missing[*]} (Debian and Ubuntu: sudo apt-get install --no-install-recommends ${missing[*]})" >&2
	exit 1
fi

# nginx, unbound and bird2 bring services that would start at once and at every boot.
# The tests want the programs only: policy-rc.d keeps them from starting now,
# disable from starting later.
policy=/usr/sbin/policy-rc.d
if [ ! -e "$policy" ]; then
	trap 'rm -f "$policy"' EXIT
	printf '#!/bin/sh\nexit 101\n' >"$policy"
	chmod 755 "$policy"
fi
export DEBIAN_FRONTEND=noninteractive
apt-get update -q
apt-get install -q -y --no-install-recommends "${missing[@]}"
for package in "${missing[@]}"; do
	case $package in
	nginx-light) services=(nginx) ;;
	haproxy) services=(haproxy) ;;
	nftables) services=(nftables) ;;
	iperf3) services=(iperf3) ;;
	unbound) services=(unbound unbound-resolvconf) ;;
	bird2) services=(bird) ;;
	*) continue ;;
	esac
	if command -v systemctl >/dev/null; then
		systemctl disable "${services[@]}" 2>/dev/null || true
	fi
done
