/*
 * A traffic source and sink for any program that is dynamically linked with DPDK: preload this, and
 * start the program with --vdev=net_null0 (one for each port).
 *
 * After rte_eth_dev_start() of a null port, its receive and transmit functions are replaced in DPDK's
 * public table rte_eth_fp_ops[]. The program then calls the functions below exactly where it would
 * call a driver's: no call is added to the packet's way. Only installed headers are used.
 *
 * Port 0 receives. Its source does what the vector path of a NIC's driver does: it takes buffers from
 * a ring that is filled from the program's own pool, writes the fields that a descriptor gives, and
 * copies the frame in, as the NIC's DMA would. Every port's sink keeps buffers in a ring and frees the
 * oldest in bulk. So about a thousand buffers are on their way, as with a NIC, and headers come from
 * L2.
 *
 * Where frames hold RTP, each time round a flow has its next number, and the timestamp follows the clock: the
 * packets of calls, for all programs alike.
 *
 * The source gives as many packets as it is asked for; or, paced (REPLAY_PACED=1), packet k from its
 * due time on, at the rate that stands in the page of counters. It then writes the due time into the
 * packet's last eight bytes, and the sink counts how long after it the packet was sent. That time
 * begins when the packet would have come, not when it was polled for. What comes while the receive
 * ring is full is lost.
 *
 *   REPLAY_PCAP=FILE    frames, replayed for ever in the file's order
 *   REPLAY_STATS=FILE   where to put the page of counters, struct page
 *   REPLAY_PACED=1      paced, with times
 *   REPLAY_BURST=N      the most packets that come at once
 */
#ifndef REPLAY_H
#define REPLAY_H

#include <stdint.h>

#include <rte_common.h>
#include <rte_mbuf.h>

#define PORTS 4
#define QUEUES 4
#define RING 512
/* Of the paced source: as many as a port of the router has. */
#define RECEIVE_RING 1024

/* A logarithmic histogram with 64 steps for each power of two: 2 % wide at most. */
#define STEPS 64
#define BUCKETS (58 * STEPS)

/* One cache line for each direction of a queue, written by one thread only. */
struct counters {
	volatile uint64_t packets, bytes, calls, lost;
	uint64_t pad[4];
};

/* What others read while the program runs; src/page.rs has the same. All but pps is written here. */
struct page {
	uint64_t magic, tsc_hz;
	volatile uint64_t pps; /* of the paced source; 0: silence */
	uint64_t pad[5];
	struct counters rx[PORTS][QUEUES], tx[PORTS][QUEUES];
	volatile uint64_t ef_ticks[BUCKETS], other_ticks[BUCKETS];
};

struct frame_fields {
	union {
		struct {
			uint32_t packet_type, pkt_len;
			uint16_t data_len, vlan;
			uint32_t rss;
		};
		uint8_t bytes[16];
	};
} __rte_aligned(16);

struct frames {
	uint8_t *data;
	struct frame_fields *fields;
	uint32_t count, stride;
	/* Where RTP's header begins, in all frames; 0: there is none. RTP's ticks, of 1/8000 s, in one of the TSC. */
	uint32_t rtp;
	double rtp_per_tick;
};

struct source {
	struct rte_mempool *pool;
	uint64_t rearm, flags;
	uint32_t frame, head;
	/* Of RTP: how often all frames have been sent, and the time. */
	uint32_t round, rtp_time;
	struct counters *counters;
	/* Paced: due times of what waits in the receive ring, and which packet is due next. */
	uint64_t start, pps, next;
	double period;
	uint32_t oldest, waiting;
	uint64_t due[RECEIVE_RING];
	struct rte_mbuf *ring[RING];
} __rte_cache_aligned;

struct sink {
	uint32_t head, fill;
	struct counters *counters;
	struct rte_mbuf *ring[RING];
} __rte_cache_aligned;

/* The program must not find these in place of its own. */
#pragma GCC visibility push(hidden)

/* load.c */
extern struct frames frames;
extern struct page *page;
extern int paced;
extern uint32_t burst;
void load(void);
void die(const char *format, ...) __rte_noreturn;

/* path.c; the queue is a struct source or a struct sink. */
uint16_t receive(void *queue, struct rte_mbuf **packets, uint16_t n);
uint16_t receive_paced(void *queue, struct rte_mbuf **packets, uint16_t n);
uint16_t receive_nothing(void *queue, struct rte_mbuf **packets, uint16_t n);
uint16_t transmit(void *queue, struct rte_mbuf **packets, uint16_t n);
uint16_t transmit_timed(void *queue, struct rte_mbuf **packets, uint16_t n);

#pragma GCC visibility pop

#endif
