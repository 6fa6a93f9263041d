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
 * The source gives as many packets as it is asked for; or, paced (REPLAY_PACED=1), packet k from its
 * due time on, at the rate that stands in the page of counters. It then writes the due time into the
 * packet's last eight bytes, and the sink counts how long after it the packet was sent. That time
 * begins when the packet would have come, not when it was polled for. What comes while the receive
 * ring is full is lost.
 *
 *   REPLAY_PCAP=FILE    frames, replayed for ever in the file's order
 *   REPLAY_STATS=FILE   where to put the page of counters, struct page
 *   REPLAY_PACED=1      paced, with times
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <rte_common.h>
#include <rte_cycles.h>
#include <rte_ethdev.h>
#include <rte_malloc.h>
#include <rte_mbuf.h>

#define PORTS 4
#define QUEUES 4
#define RING 512
/* Of the paced source: as many as a port of the router has. */
#define RECEIVE_RING 1024
#define LINK_MBPS 100000
#define MAGIC 0x3130594c50455256ull

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

static struct {
	uint8_t *data;
	struct frame_fields *fields;
	uint32_t count, stride;
} frames;

struct source {
	struct rte_mempool *pool;
	uint64_t rearm, flags;
	uint32_t frame, head;
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

static struct source *sources[PORTS][QUEUES];
static struct sink *sinks[PORTS][QUEUES];
static struct rte_mempool *pools[PORTS][QUEUES];
static uint16_t rx_queues[PORTS], tx_queues[PORTS];
static struct page *page;
static int paced;

#define REAL(name) ({ static typeof(&name) real; if (!real) real = (typeof(&name))dlsym(RTLD_NEXT, #name); real; })

static void die(const char *format, ...)
{
	va_list arguments;
	va_start(arguments, format);
	fputs("replay_shim: ", stderr);
	vfprintf(stderr, format, arguments);
	fputc('\n', stderr);
	va_end(arguments);
	exit(2);
}

static int is_null(uint16_t port)
{
	struct rte_eth_dev_info info;
	return port < PORTS && REAL(rte_eth_dev_info_get)(port, &info) == 0 && info.driver_name &&
	       strcmp(info.driver_name, "net_null") == 0;
}

static uint32_t mix(uint32_t hash, const uint8_t *word)
{
	uint32_t value;
	memcpy(&value, word, 4);
	hash = (hash ^ value) * 0x85ebca6bu;
	hash = (hash ^ hash >> 13) * 0xc2b2ae35u;
	return hash ^ hash >> 16;
}

/* What a NIC would say of a frame. */
static void describe(struct frame_fields *fields, const uint8_t *frame, uint32_t length)
{
	uint32_t at = 12, words = 0, protocol = 0;
	fields->pkt_len = length;
	fields->data_len = length;
	fields->packet_type = RTE_PTYPE_L2_ETHER;
	while (at + 2 < length && ((frame[at] == 0x81 && frame[at + 1] == 0) || (frame[at] == 0x88 && frame[at + 1] == 0xa8)))
		at += 4;
	if (at + 26 <= length && frame[at] == 8 && frame[at + 1] == 0) {
		fields->packet_type |= RTE_PTYPE_L3_IPV4;
		protocol = frame[at + 2 + 9];
		at += 2 + 12;
		words = 3;
	} else if (at + 46 <= length && frame[at] == 0x86 && frame[at + 1] == 0xdd) {
		fields->packet_type |= RTE_PTYPE_L3_IPV6;
		protocol = frame[at + 2 + 6];
		at += 2 + 8;
		words = 9;
	}
	if (protocol == 17)
		fields->packet_type |= RTE_PTYPE_L4_UDP;
	else if (protocol == 6)
		fields->packet_type |= RTE_PTYPE_L4_TCP;
	/* Addresses and ports. */
	fields->rss = 0x12345678;
	for (uint32_t i = 0; i < words; i++)
		fields->rss = mix(fields->rss, frame + at + 4 * i);
}

static const uint8_t *map(const char *file, size_t *size)
{
	struct stat status;
	int fd = file ? open(file, O_RDONLY) : -1;
	if (fd < 0 || fstat(fd, &status) < 0)
		die("REPLAY_PCAP=%s: %s", file ? file : "", strerror(errno));
	*size = status.st_size;
	const uint8_t *data = *size < 24 ? MAP_FAILED : mmap(NULL, *size, PROT_READ, MAP_PRIVATE, fd, 0);
	if (data == MAP_FAILED || memcmp(data, "\xd4\xc3\xb2\xa1", 4) != 0)
		die("%s is no capture", file);
	close(fd);
	return data;
}

/* Calls each() for every frame of a capture. */
static void for_each_frame(const uint8_t *data, size_t size, void (*each)(const uint8_t *, uint32_t))
{
	for (size_t at = 24; at + 16 <= size;) {
		uint32_t length;
		memcpy(&length, data + at + 8, 4);
		at += 16;
		if (length > size - at)
			die("the capture's last frame is cut off");
		each(data + at, length);
		at += length;
	}
}

static void count_frame(const uint8_t *frame, uint32_t length)
{
	(void)frame;
	frames.count++;
	frames.stride = RTE_MAX(frames.stride, RTE_ALIGN_CEIL(length, 64u));
}

static void add_frame(const uint8_t *frame, uint32_t length)
{
	memcpy(frames.data + (size_t)frames.count * frames.stride, frame, length);
	describe(&frames.fields[frames.count], frame, length);
	frames.count++;
}

static void load(void)
{
	if (page)
		return;
	size_t size;
	const uint8_t *capture = map(getenv("REPLAY_PCAP"), &size);
	for_each_frame(capture, size, count_frame);
	if (frames.count == 0)
		die("the capture is empty");
	/* Hugepages: one TLB entry covers 2 MiB of frames. */
	frames.data = rte_zmalloc("replay_data", (size_t)frames.stride * frames.count, 64);
	frames.fields = rte_zmalloc("replay_fields", sizeof(*frames.fields) * (size_t)frames.count, 64);
	if (!frames.data || !frames.fields)
		die("no hugepages for %u frames of %u bytes", frames.count, frames.stride);
	frames.count = 0;
	for_each_frame(capture, size, add_frame);
	munmap((void *)(uintptr_t)capture, size);

	const char *file = getenv("REPLAY_STATS");
	int fd = file ? open(file, O_RDWR | O_CREAT, 0644) : -1;
	if (fd < 0 || ftruncate(fd, sizeof(*page)) < 0)
		die("REPLAY_STATS=%s: %s", file ? file : "", strerror(errno));
	page = mmap(NULL, sizeof(*page), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (page == MAP_FAILED)
		die("cannot map %s", file);
	close(fd);
	paced = getenv("REPLAY_PACED") != NULL;
	page->tsc_hz = rte_get_tsc_hz();
	page->magic = MAGIC;
}

/* ------------------------------------------------------------------ the packet's way */

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
	if (++source->frame == frames.count)
		source->frame = 0;
	return length;
}

static uint16_t receive(void *queue, struct rte_mbuf **packets, uint16_t n)
{
	struct source *source = queue;
	struct counters *counters = source->counters;
	uint32_t bytes = 0;

	counters->calls = counters->calls + 1;
	if (!take(source, packets, n))
		return 0;
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

static uint16_t receive_paced(void *queue, struct rte_mbuf **packets, uint16_t n)
{
	struct source *source = queue;
	struct counters *counters = source->counters;
	uint32_t bytes = 0;

	counters->calls = counters->calls + 1;
	arrive(source, rte_rdtsc());
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

static uint16_t receive_nothing(void *queue, struct rte_mbuf **packets, uint16_t n)
{
	(void)queue;
	(void)packets;
	(void)n;
	return 0;
}

static uint16_t transmit(void *queue, struct rte_mbuf **packets, uint16_t n)
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

static uint16_t transmit_timed(void *queue, struct rte_mbuf **packets, uint16_t n)
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

/* ------------------------------------------------------------------ what the program calls before */

/* So that no program needs a patch: offloads and packet types that a NIC has and net_null has not. */
#define RX_OFFLOADS (RTE_ETH_RX_OFFLOAD_IPV4_CKSUM | RTE_ETH_RX_OFFLOAD_UDP_CKSUM | RTE_ETH_RX_OFFLOAD_TCP_CKSUM | \
		     RTE_ETH_RX_OFFLOAD_RSS_HASH)
#define TX_OFFLOADS (RTE_ETH_TX_OFFLOAD_IPV4_CKSUM | RTE_ETH_TX_OFFLOAD_UDP_CKSUM | RTE_ETH_TX_OFFLOAD_TCP_CKSUM | \
		     RTE_ETH_TX_OFFLOAD_MBUF_FAST_FREE | RTE_ETH_TX_OFFLOAD_MULTI_SEGS)

int rte_eth_dev_info_get(uint16_t port, struct rte_eth_dev_info *info)
{
	int result = REAL(rte_eth_dev_info_get)(port, info);
	if (result == 0 && info->driver_name && strcmp(info->driver_name, "net_null") == 0) {
		info->rx_offload_capa |= RX_OFFLOADS;
		info->tx_offload_capa |= TX_OFFLOADS;
	}
	return result;
}

int rte_eth_dev_configure(uint16_t port, uint16_t rx, uint16_t tx, const struct rte_eth_conf *wanted)
{
	struct rte_eth_conf conf = *wanted;
	if (is_null(port)) {
		conf.rxmode.offloads = 0;
		conf.txmode.offloads = 0;
		conf.rx_adv_conf.rss_conf.rss_hf = 0;
		conf.rxmode.mq_mode = RTE_ETH_MQ_RX_NONE;
		if (rx > QUEUES || tx > QUEUES)
			die("at most %d queues", QUEUES);
		rx_queues[port] = rx;
		tx_queues[port] = tx;
	}
	return REAL(rte_eth_dev_configure)(port, rx, tx, &conf);
}

int rte_eth_rx_queue_setup(uint16_t port, uint16_t queue, uint16_t ring, unsigned int socket,
			   const struct rte_eth_rxconf *wanted, struct rte_mempool *pool)
{
	struct rte_eth_rxconf conf;
	if (wanted && is_null(port)) {
		conf = *wanted;
		conf.offloads = 0;
		wanted = &conf;
	}
	if (port < PORTS && queue < QUEUES)
		pools[port][queue] = pool;
	return REAL(rte_eth_rx_queue_setup)(port, queue, ring, socket, wanted, pool);
}

int rte_eth_tx_queue_setup(uint16_t port, uint16_t queue, uint16_t ring, unsigned int socket,
			   const struct rte_eth_txconf *wanted)
{
	struct rte_eth_txconf conf;
	if (wanted && is_null(port)) {
		conf = *wanted;
		conf.offloads = 0;
		wanted = &conf;
	}
	return REAL(rte_eth_tx_queue_setup)(port, queue, ring, socket, wanted);
}

static struct source *new_source(uint16_t port, uint16_t queue)
{
	struct source *source = rte_zmalloc("replay_source", sizeof(*source), 64);
	if (!source)
		die("no memory");
	source->pool = pools[port][queue];
	source->counters = &page->rx[port][queue];
	source->flags = RTE_MBUF_F_RX_IP_CKSUM_GOOD | RTE_MBUF_F_RX_L4_CKSUM_GOOD | RTE_MBUF_F_RX_RSS_HASH;
	struct rte_mbuf model;
	memset(&model, 0, sizeof(model));
	model.data_off = RTE_PKTMBUF_HEADROOM;
	model.refcnt = 1;
	model.nb_segs = 1;
	model.port = port;
	memcpy(&source->rearm, &model.rearm_data, 8);
	source->frame = (uint64_t)frames.count * queue / rx_queues[port];
	if (port == 0 && rte_mempool_get_bulk(source->pool, (void **)source->ring, RING) != 0)
		die("the program's pool has less than %d buffers", RING);
	return source;
}

static struct sink *new_sink(uint16_t port, uint16_t queue)
{
	struct sink *sink = rte_zmalloc("replay_sink", sizeof(*sink), 64);
	if (!sink)
		die("no memory");
	sink->counters = &page->tx[port][queue];
	return sink;
}

int rte_eth_dev_start(uint16_t port)
{
	int result = REAL(rte_eth_dev_start)(port);
	if (result != 0 || !is_null(port))
		return result;
	load();
	for (uint16_t queue = 0; queue < rx_queues[port]; queue++)
		if (!sources[port][queue])
			sources[port][queue] = new_source(port, queue);
	for (uint16_t queue = 0; queue < tx_queues[port]; queue++)
		if (!sinks[port][queue])
			sinks[port][queue] = new_sink(port, queue);
	struct rte_eth_fp_ops *functions = &rte_eth_fp_ops[port];
	functions->rxq.data = (void **)sources[port];
	functions->txq.data = (void **)sinks[port];
	functions->rx_pkt_burst = port != 0 ? receive_nothing : paced ? receive_paced : receive;
	functions->tx_pkt_burst = paced ? transmit_timed : transmit;
	return 0;
}

int rte_eth_dev_get_supported_ptypes(uint16_t port, uint32_t mask, uint32_t *types, int room)
{
	static const uint32_t known[] = { RTE_PTYPE_L2_ETHER,  RTE_PTYPE_L3_IPV4,     RTE_PTYPE_L3_IPV4_EXT,
					  RTE_PTYPE_L3_IPV6,   RTE_PTYPE_L3_IPV6_EXT, RTE_PTYPE_L4_UDP,
					  RTE_PTYPE_L4_TCP };
	if (!is_null(port))
		return REAL(rte_eth_dev_get_supported_ptypes)(port, mask, types, room);
	int count = 0;
	for (unsigned int i = 0; i < RTE_DIM(known); i++)
		if (known[i] & mask) {
			if (count < room)
				types[count] = known[i];
			count++;
		}
	return count;
}

static void set_link(uint16_t port, struct rte_eth_link *link)
{
	if (is_null(port)) {
		link->link_speed = LINK_MBPS;
		link->link_status = RTE_ETH_LINK_UP;
		link->link_duplex = RTE_ETH_LINK_FULL_DUPLEX;
	}
}

int rte_eth_link_get(uint16_t port, struct rte_eth_link *link)
{
	int result = REAL(rte_eth_link_get)(port, link);
	set_link(port, link);
	return result;
}

int rte_eth_link_get_nowait(uint16_t port, struct rte_eth_link *link)
{
	int result = REAL(rte_eth_link_get_nowait)(port, link);
	set_link(port, link);
	return result;
}
