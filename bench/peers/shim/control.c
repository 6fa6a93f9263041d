/* What the program calls before the first packet: its null ports look like a NIC's, and get the burst
 * functions of path.c. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <string.h>

#include <rte_ethdev.h>
#include <rte_malloc.h>

#include "replay.h"

#define LINK_MBPS 100000

static struct source *sources[PORTS][QUEUES];
static struct sink *sinks[PORTS][QUEUES];
static struct rte_mempool *pools[PORTS][QUEUES];
static uint16_t rx_queues[PORTS], tx_queues[PORTS];

#define REAL(name) ({ static typeof(&name) real; if (!real) real = (typeof(&name))dlsym(RTLD_NEXT, #name); real; })

static int is_null(uint16_t port)
{
	struct rte_eth_dev_info info;
	return port < PORTS && REAL(rte_eth_dev_info_get)(port, &info) == 0 && info.driver_name &&
	       strcmp(info.driver_name, "net_null") == 0;
}

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
