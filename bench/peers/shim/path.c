/* The packet's way: what stands where a NIC's driver would. */
#include <string.h>

#include <rte_byteorder.h>
#include <rte_cycles.h>
#include <rte_mempool.h>

#include "replay.h"

/* Takes n buffers of the ring and puts fresh ones there; false: the program's pool is empty. */
static __rte_always_inline int take(struct source *source, struct rte_mbuf **packets, uint32_t n)
{
	struct rte_mbuf *fresh[n];
	uint32_t head = source->head;
	if (unlikely(rte_mempool_get_bulk(source->pool, (void **)fresh, n) != 0))
		return 0;
	for (uint32_t i = 0; i < n; i++) {
		packets[i] = source->ring[(head + i) % RING];
		source->ring[(head + i) % RING] = fresh[i];
		rte_prefetch0(source->ring[(head + i + 16) % RING]);
	}
	source->head = head + n;
	return 1;
}

/* Gives the frame's RTP header the call's next number, and the time of the burst (RFC 3550 section 5.1). */
static __rte_always_inline void number(const struct source *source, const uint8_t *from, uint8_t *to)
{
	uint16_t number;
	uint32_t timestamp;
	memcpy(&number, from + 2, 2);
	memcpy(&timestamp, from + 4, 4);
	number = rte_cpu_to_be_16(rte_be_to_cpu_16(number) + source->round);
	timestamp = rte_cpu_to_be_32(rte_be_to_cpu_32(timestamp) + source->rtp_time);
	memcpy(to + 2, &number, 2);
	memcpy(to + 4, &timestamp, 4);
}

static __rte_always_inline void tell_time(struct source *source, uint64_t now)
{
	source->rtp_time = (uint64_t)(now * frames.rtp_per_tick);
}

/* Makes the buffer the source's next packet, with the stores that a vector driver makes. */
static __rte_always_inline uint32_t fill(struct source *source, struct rte_mbuf *packet)
{
	const struct frame_fields *fields = &frames.fields[source->frame];
	const uint8_t *from = frames.data + (size_t)source->frame * frames.stride;
	uint8_t *to = (uint8_t *)packet->buf_addr + RTE_PKTMBUF_HEADROOM;
	uint32_t length = fields->data_len;

	*(uint64_t *)&packet->rearm_data = source->rearm;
	packet->ol_flags = source->flags;
	memcpy((void *)&packet->rx_descriptor_fields1, fields->bytes, 16);
	packet->next = NULL;
	/* Whole cache lines: frames are padded to them. */
	for (uint32_t at = 0; at < length; at += 64)
		memcpy(to + at, from + at, 64);
	if (frames.rtp)
		number(source, from + frames.rtp, to + frames.rtp);
	if (++source->frame == frames.count) {
		source->frame = 0;
		source->round++;
	}
	return length;
}

uint16_t receive(void *queue, struct rte_mbuf **packets, uint16_t n)
{
	struct source *source = queue;
	struct counters *counters = source->counters;
	uint32_t bytes = 0;

	counters->calls = counters->calls + 1;
	n = RTE_MIN(n, burst);
	if (!take(source, packets, n))
		return 0;
	tell_time(source, rte_rdtsc());
	for (uint32_t i = 0; i < n; i++)
		bytes += fill(source, packets[i]);
	counters->packets = counters->packets + n;
	counters->bytes = counters->bytes + bytes;
	return n;
}

/* Puts into the receive ring what has come since the last time; what finds no place is lost. */
static void arrive(struct source *source, uint64_t now)
{
	if (source->pps != page->pps) {
		source->pps = page->pps;
		source->period = source->pps ? (double)page->tsc_hz / source->pps : 0;
		source->start = now;
		source->next = 1;
	}
	if (source->pps == 0)
		return;
	uint64_t come = (now - source->start) / source->period;
	for (; source->next <= come && source->waiting < RECEIVE_RING; source->next++) {
		source->due[(source->oldest + source->waiting) % RECEIVE_RING] =
			source->start + (uint64_t)(source->next * source->period);
		source->waiting++;
	}
	if (source->next <= come) {
		source->counters->lost = source->counters->lost + (come + 1 - source->next);
		source->next = come + 1;
	}
}

uint16_t receive_paced(void *queue, struct rte_mbuf **packets, uint16_t n)
{
	struct source *source = queue;
	struct counters *counters = source->counters;
	uint32_t bytes = 0;

	counters->calls = counters->calls + 1;
	uint64_t now = rte_rdtsc();
	arrive(source, now);
	tell_time(source, now);
	n = RTE_MIN((uint32_t)n, source->waiting);
	if (n == 0 || !take(source, packets, n))
		return 0;
	for (uint32_t i = 0; i < n; i++) {
		uint32_t length = fill(source, packets[i]);
		memcpy(rte_pktmbuf_mtod_offset(packets[i], uint8_t *, length - 8), &source->due[source->oldest], 8);
		source->oldest = (source->oldest + 1) % RECEIVE_RING;
		bytes += length;
	}
	source->waiting -= n;
	counters->packets = counters->packets + n;
	counters->bytes = counters->bytes + bytes;
	return n;
}

uint16_t receive_nothing(void *queue, struct rte_mbuf **packets, uint16_t n)
{
	(void)queue;
	(void)packets;
	(void)n;
	return 0;
}

uint16_t transmit(void *queue, struct rte_mbuf **packets, uint16_t n)
{
	struct sink *sink = queue;
	struct counters *counters = sink->counters;
	uint32_t bytes = 0;

	counters->calls = counters->calls + 1;
	/* A driver writes the length to the descriptor. */
	for (uint16_t i = 0; i < n; i++)
		bytes += packets[i]->pkt_len;
	while (sink->fill + n > RING) {
		uint32_t tail = (sink->head - sink->fill) % RING;
		uint32_t count = RTE_MIN(sink->fill, RTE_MIN(64u, RING - tail));
		rte_pktmbuf_free_bulk(&sink->ring[tail], count);
		sink->fill -= count;
	}
	for (uint16_t i = 0; i < n; i++)
		sink->ring[(sink->head + i) % RING] = packets[i];
	sink->head += n;
	sink->fill += n;
	counters->packets = counters->packets + n;
	counters->bytes = counters->bytes + bytes;
	return n;
}

static uint32_t bucket(uint64_t ticks)
{
	if (ticks < 2 * STEPS)
		return ticks;
	uint32_t shift = 63 - __builtin_clzll(ticks) - __builtin_ctz(STEPS);
	return RTE_MIN(shift * STEPS + (uint32_t)(ticks >> shift), BUCKETS - 1u);
}

static int is_ef(const uint8_t *frame)
{
	uint8_t class = frame[12] == 8 ? frame[15] : (uint8_t)(frame[14] << 4 | frame[15] >> 4);
	return class >> 2 == 46;
}

uint16_t transmit_timed(void *queue, struct rte_mbuf **packets, uint16_t n)
{
	uint64_t now = rte_rdtsc(), due;
	for (uint16_t i = 0; i < n; i++) {
		const uint8_t *frame = rte_pktmbuf_mtod(packets[i], const uint8_t *);
		memcpy(&due, frame + packets[i]->pkt_len - 8, 8);
		volatile uint64_t *count = is_ef(frame) ? page->ef_ticks : page->other_ticks;
		count += bucket(now > due ? now - due : 0);
		*count = *count + 1;
	}
	return transmit(queue, packets, n);
}
