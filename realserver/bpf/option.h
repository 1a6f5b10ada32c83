/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* The client-address options of a TCP header. */

#pragma once

#include "common.h"

/* From the standards. */
#define TCP_FIXED 20 /* RFC 9293, 3.1: where options begin */
#define TCP_LONGEST 60
#define OPTION_END 0
#define OPTION_NOP 1
#define MAX_OPTIONS 40 /* each has a byte at least */

/* From the balancers. */
#define OPTION_IPV4 8 /* kind, length, port, address */
#define OPTION_IPV6 20
#define TTM_IPV4 10 /* kind, length, family, port, address */
#define TTM_IPV6 22

/* Our choices. */
#define FORM_IPV4 1 /* bits in kinds */
#define FORM_IPV6 2
#define FORM_TTM 4

/* By option kind: the forms that it may have. */
const volatile __u8 kinds[256];
/* The length of an option of TTM's form. */
const volatile __u8 ttm_length;

/* What is known of a TCP header's options so far. */
struct search {
	struct endpoint found;
	__u32 verdict; /* an enum counter */
};

static __always_inline int stop(struct search *s, enum counter why)
{
	s->verdict = why;
	return 0;
}

/*
 * read_option reads the option that is off bytes behind data and returns where
 * the next one is, 0 if there is none. The header has limit bytes behind data,
 * and end is where the verifier lets the programs read to.
 */
static __always_inline int read_option(__u8 *data, __u8 *end, __u32 limit, __u32 off, struct search *s)
{
	__u8 *option = data + off;
	struct endpoint c = {};
	__u8 forms, length;

	if (off + 1 > limit || option + 1 > end || option[0] == OPTION_END)
		return 0;
	if (option[0] == OPTION_NOP)
		return off + 1;
	/* RFC 9293, 3.1: the length counts kind and length themselves. */
	if (off + 2 > limit || option + 2 > end)
		return stop(s, COUNTER_MALFORMED);
	length = option[1];
	if (length < 2 || off + length > limit || option + length > end)
		return stop(s, COUNTER_MALFORMED);
	forms = kinds[option[0]];
	if (!forms)
		return off + length;
	if (length == OPTION_IPV4 && forms & FORM_IPV4) {
		if (option + OPTION_IPV4 > end)
			return stop(s, COUNTER_MALFORMED);
		c.port = load16(option + 2);
		map_ipv4(c.addr, load32(option + 4));
	} else if (length == OPTION_IPV6 && forms & FORM_IPV6) {
		if (option + OPTION_IPV6 > end)
			return stop(s, COUNTER_MALFORMED);
		c.port = load16(option + 2);
		load_addr(c.addr, option + 4);
	} else if (length == ttm_length && forms & FORM_TTM) {
		/* The family is little-endian, as those who publish it store it. */
		if (option + TTM_IPV4 > end)
			return stop(s, COUNTER_MALFORMED);
		c.port = load16(option + 4);
		if (option[2] == FAMILY_IPV4 && option[3] == 0)
			map_ipv4(c.addr, load32(option + 6));
		else if (option[2] == FAMILY_IPV6 && option[3] == 0 && option + TTM_IPV6 <= end && length >= TTM_IPV6)
			load_addr(c.addr, option + 6);
		/* Else it is nobody's, which is not possible. */
	} else {
		/* Perhaps somebody else's experiment (RFC 6994). */
		if (s->verdict == COUNTER_NO_OPTION)
			s->verdict = COUNTER_WRONG_LENGTH;
		return off + length;
	}
	if (s->verdict == COUNTER_LEARNED && !same(&c, &s->found))
		return stop(s, COUNTER_CONTRADICTION);
	if (!possible(&c))
		return stop(s, COUNTER_BAD_ADDRESS);
	s->found = c;
	s->verdict = COUNTER_LEARNED;
	return off + length;
}
