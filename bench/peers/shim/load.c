/* What is there before the first packet: the capture's frames, and the page of counters. */
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <rte_cycles.h>
#include <rte_malloc.h>

#include "replay.h"

#define MAGIC 0x3130594c50455256ull

struct frames frames;
struct page *page;
int paced;
uint32_t burst = UINT16_MAX;

void die(const char *format, ...)
{
	va_list arguments;
	va_start(arguments, format);
	fputs("replay_shim: ", stderr);
	vfprintf(stderr, format, arguments);
	fputc('\n', stderr);
	va_end(arguments);
	exit(2);
}

static uint32_t mix(uint32_t hash, const uint8_t *word)
{
	uint32_t value;
	memcpy(&value, word, 4);
	hash = (hash ^ value) * 0x85ebca6bu;
	hash = (hash ^ hash >> 13) * 0xc2b2ae35u;
	return hash ^ hash >> 16;
}

/* What a NIC would say of a frame, and where its RTP begins. */
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
	if (protocol == 17) {
		uint32_t rtp = at + 4 * words + 4;
		fields->packet_type |= RTE_PTYPE_L4_UDP;
		if (rtp + 12 <= length && frame[rtp] == 0x80)
			frames.rtp = rtp;
	}
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

void load(void)
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
	frames.rtp_per_tick = 8000.0 / rte_get_tsc_hz();
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
	if (getenv("REPLAY_BURST"))
		burst = strtoul(getenv("REPLAY_BURST"), NULL, 10);
	page->tsc_hz = rte_get_tsc_hz();
	page->magic = MAGIC;
}
