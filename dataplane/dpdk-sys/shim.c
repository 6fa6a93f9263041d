#include "shim.h"

#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <linux/filter.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

int vl_errno(void)
{
	return rte_errno;
}

uint64_t vl_network_namespace(void)
{
	uint64_t cookie = 0;
	socklen_t length = sizeof(cookie);
	int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return 0;
	/* SO_NETNS_COOKIE, which older headers lack. */
	if (getsockopt(fd, SOL_SOCKET, 71, &cookie, &length) != 0)
		cookie = 0;
	close(fd);
	return cookie;
}

uint64_t vl_tsc(void)
{
	return rte_rdtsc();
}

int vl_port_info_get(uint16_t port, struct vl_port_info *info)
{
	struct rte_eth_dev_info dev;
	struct rte_ether_addr mac;
	int rc = rte_eth_dev_info_get(port, &dev);
	if (rc != 0)
		return rc;
	rc = rte_eth_macaddr_get(port, &mac);
	if (rc != 0)
		return rc;
	memset(info, 0, sizeof(*info));
	info->driver = dev.driver_name;
	info->socket = rte_eth_dev_socket_id(port);
	info->max_rx_queues = dev.max_rx_queues;
	info->max_tx_queues = dev.max_tx_queues;
	info->min_rx_ring = dev.rx_desc_lim.nb_min;
	info->max_rx_ring = dev.rx_desc_lim.nb_max;
	info->min_tx_ring = dev.tx_desc_lim.nb_min;
	info->max_tx_ring = dev.tx_desc_lim.nb_max;
	info->min_mtu = dev.min_mtu;
	info->max_mtu = dev.max_mtu;
	memcpy(info->mac, mac.addr_bytes, sizeof(info->mac));
	info->spreads_by_udp_port = (dev.flow_type_rss_offloads & RTE_ETH_RSS_NONFRAG_IPV4_UDP) != 0 &&
				    (dev.flow_type_rss_offloads & RTE_ETH_RSS_NONFRAG_IPV6_UDP) != 0;
	return 0;
}

int vl_port_configure(uint16_t port, uint16_t rx_queues, uint16_t tx_queues, uint16_t mtu)
{
	struct rte_eth_dev_info dev;
	struct rte_eth_conf conf;
	int rc = rte_eth_dev_info_get(port, &dev);
	if (rc != 0)
		return rc;
	memset(&conf, 0, sizeof(conf));
	conf.rxmode.mtu = mtu;
	if (rx_queues > 1) {
		conf.rxmode.mq_mode = RTE_ETH_MQ_RX_RSS;
		conf.rx_adv_conf.rss_conf.rss_hf =
			(RTE_ETH_RSS_IP | RTE_ETH_RSS_UDP | RTE_ETH_RSS_TCP) &
			dev.flow_type_rss_offloads;
	}
	/* Every buffer comes from one pool and is referred to once, as this offload asks. */
	conf.txmode.offloads = dev.tx_offload_capa & RTE_ETH_TX_OFFLOAD_MBUF_FAST_FREE;
	return rte_eth_dev_configure(port, rx_queues, tx_queues, &conf);
}

int vl_port_rx_queue(uint16_t port, uint16_t queue, uint16_t descriptors, int socket,
		     struct rte_mempool *pool)
{
	return rte_eth_rx_queue_setup(port, queue, descriptors, (unsigned int)socket, NULL, pool);
}

int vl_port_tx_queue(uint16_t port, uint16_t queue, uint16_t descriptors, int socket)
{
	return rte_eth_tx_queue_setup(port, queue, descriptors, (unsigned int)socket, NULL);
}

int vl_port_stats_get(uint16_t port, struct vl_port_stats *stats)
{
	struct rte_eth_stats all;
	int rc = rte_eth_stats_get(port, &all);
	if (rc != 0)
		return rc;
	stats->rx_missed = all.imissed;
	stats->rx_errors = all.ierrors;
	stats->rx_no_buffer = all.rx_nombuf;
	stats->tx_errors = all.oerrors;
	return 0;
}

int vl_port_link(uint16_t port, struct vl_link *link)
{
	struct rte_eth_link all;
	int rc;
	memset(&all, 0, sizeof(all));
	rc = rte_eth_link_get_nowait(port, &all);
	if (rc != 0)
		return rc;
	link->up = all.link_status == RTE_ETH_LINK_UP;
	link->speed_mbps = all.link_speed == RTE_ETH_SPEED_NUM_UNKNOWN ? 0 : all.link_speed;
	return 0;
}

/* The driver's packet sockets are among the process's descriptors, bound to the interface. */
int vl_port_mark_service_tags(uint16_t port)
{
	struct sock_filter code[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, (uint32_t)(SKF_AD_OFF + SKF_AD_VLAN_TAG_PRESENT)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, 0, 3, 0),
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, (uint32_t)(SKF_AD_OFF + SKF_AD_VLAN_TPID)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, ETH_P_8021AD, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, VL_SERVICE_TAGGED_BYTES),
		BPF_STMT(BPF_RET | BPF_K, UINT32_MAX),
	};
	const struct sock_fprog program = {
		.len = sizeof(code) / sizeof(code[0]),
		.filter = code,
	};
	struct rte_eth_dev_info dev;
	struct dirent *entry;
	DIR *dir;
	int rc = rte_eth_dev_info_get(port, &dev);
	if (rc != 0 || strcmp(dev.driver_name, "net_af_packet") != 0)
		return rc;
	dir = opendir("/proc/self/fd");
	if (dir == NULL)
		return -errno;
	while (rc == 0 && (entry = readdir(dir)) != NULL) {
		struct sockaddr_ll address;
		socklen_t length = sizeof(address);
		int fd = atoi(entry->d_name);
		memset(&address, 0, sizeof(address));
		if (getsockname(fd, (struct sockaddr *)&address, &length) != 0 ||
		    address.sll_family != AF_PACKET ||
		    (uint32_t)address.sll_ifindex != dev.if_index)
			continue;
		if (setsockopt(fd, SOL_SOCKET, SO_ATTACH_FILTER, &program, sizeof(program)) != 0)
			rc = -errno;
	}
	closedir(dir);
	return rc;
}

uint16_t vl_rx_burst(uint16_t port, uint16_t queue, struct rte_mbuf **packets, uint16_t count)
{
	return rte_eth_rx_burst(port, queue, packets, count);
}

uint16_t vl_tx_burst(uint16_t port, uint16_t queue, struct rte_mbuf **packets, uint16_t count)
{
	return rte_eth_tx_burst(port, queue, packets, count);
}

struct rte_mbuf *vl_mbuf_alloc(struct rte_mempool *pool)
{
	return rte_pktmbuf_alloc(pool);
}

void vl_mbuf_free(struct rte_mbuf *packet)
{
	rte_pktmbuf_free(packet);
}
