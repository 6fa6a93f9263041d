/* What Rust cannot take from DPDK's headers itself: inline functions, and structures whose fields
 * differ from release to release. Fields are known here by name, and in Rust by offset only. */
#ifndef VOICELANE_SHIM_H
#define VOICELANE_SHIM_H

#include <stddef.h>
#include <stdint.h>

#include <rte_bus_vdev.h>
#include <rte_cycles.h>
#include <rte_eal.h>
#include <rte_errno.h>
#include <rte_ethdev.h>
#include <rte_lcore.h>
#include <rte_malloc.h>
#include <rte_mbuf.h>
#include <rte_mempool.h>
#include <rte_version.h>

/* Offsets into struct rte_mbuf. */
enum vl_mbuf_offset {
	VL_MBUF_BUF_ADDR = offsetof(struct rte_mbuf, buf_addr), /* void * */
	VL_MBUF_DATA_OFF = offsetof(struct rte_mbuf, data_off), /* uint16_t */
	VL_MBUF_DATA_LEN = offsetof(struct rte_mbuf, data_len), /* uint16_t */
	VL_MBUF_PKT_LEN = offsetof(struct rte_mbuf, pkt_len),   /* uint32_t */
	VL_MBUF_BUF_LEN = offsetof(struct rte_mbuf, buf_len),   /* uint16_t */
	VL_MBUF_NB_SEGS = offsetof(struct rte_mbuf, nb_segs),   /* uint16_t */
	VL_MBUF_OL_FLAGS = offsetof(struct rte_mbuf, ol_flags), /* uint64_t */
	VL_MBUF_VLAN_TCI = offsetof(struct rte_mbuf, vlan_tci), /* uint16_t */
};

/* Bits of ol_flags. */
enum vl_mbuf_flag {
	/* The device took a VLAN tag out of the frame, and its TCI is in vlan_tci. */
	VL_MBUF_VLAN_STRIPPED = RTE_MBUF_F_RX_VLAN_STRIPPED,
};

enum vl_limit {
	VL_HEADROOM = RTE_PKTMBUF_HEADROOM,
	VL_CACHE_MAX = RTE_MEMPOOL_CACHE_MAX_SIZE,
	/* What is left of a frame whose service tag the kernel took out: its two addresses. */
	VL_SERVICE_TAGGED_BYTES = 12,
};

struct vl_port_info {
	const char *driver;
	int socket;
	uint16_t max_rx_queues, max_tx_queues;
	uint16_t min_rx_ring, max_rx_ring;
	uint16_t min_tx_ring, max_tx_ring;
	uint16_t min_mtu, max_mtu;
	uint8_t mac[6];
	/* Whether receive queues can be chosen by the ports of UDP, in both families. */
	uint8_t spreads_by_udp_port;
};

struct vl_port_stats {
	uint64_t rx_missed, rx_errors, rx_no_buffer, tx_errors;
};

struct vl_link {
	int up;
	uint32_t speed_mbps; /* 0 when unknown */
};

int vl_errno(void);
/* The calling thread's network namespace: a number that no other gets until the next boot. 0 where the
 * kernel (before Linux 5.14) does not tell. */
uint64_t vl_network_namespace(void);
uint64_t vl_tsc(void);

int vl_port_info_get(uint16_t port, struct vl_port_info *info);
int vl_port_configure(uint16_t port, uint16_t rx_queues, uint16_t tx_queues, uint16_t mtu);
int vl_port_rx_queue(uint16_t port, uint16_t queue, uint16_t descriptors, int socket,
		     struct rte_mempool *pool);
int vl_port_tx_queue(uint16_t port, uint16_t queue, uint16_t descriptors, int socket);
int vl_port_stats_get(uint16_t port, struct vl_port_stats *stats);
int vl_port_link(uint16_t port, struct vl_link *link);

/* Of net_af_packet: makes frames with a service tag known (VL_SERVICE_TAGGED_BYTES). The kernel takes
 * the outer tag out of each frame, and the driver does not say of which kind it was. Nothing of other
 * drivers. Returns a negative error number. */
int vl_port_mark_service_tags(uint16_t port);

uint16_t vl_rx_burst(uint16_t port, uint16_t queue, struct rte_mbuf **packets, uint16_t count);
uint16_t vl_tx_burst(uint16_t port, uint16_t queue, struct rte_mbuf **packets, uint16_t count);

struct rte_mbuf *vl_mbuf_alloc(struct rte_mempool *pool);
void vl_mbuf_free(struct rte_mbuf *packet);


#endif
