/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The functions by which rules look at each single packet: what they do with
 * one of a connection says nothing of the next.  Shared by the gate, which
 * watches them, and by chimneyctl, which loads the modules that they are in.
 *
 * Not here, though they see packets: matches and statements whose result is
 * the same for every packet of a connection (addresses, ports, interfaces,
 * marks, owner ...), those that change what the gate sees itself ("rewritten",
 * "nat"), those of nftables that are evaluated for every packet
 * (packet_rules.h), and those of netdev and bridge chains, through which the
 * path's packets go as well.
 */
#ifndef CHIMNEY_EVALUATORS_H
#define CHIMNEY_EVALUATORS_H

/**
 * enum evaluator_kind - where a function has the packet
 * @EVALUATOR_SKB: (skb, ...), as matches and targets of xtables have it
 * @EVALUATOR_NFT: (expression or object, registers, nft_pktinfo)
 * @EVALUATOR_TRACE: (nft_pktinfo, ...)
 * @EVALUATOR_LOG: (net, family, hook, skb, ...)
 * @EVALUATOR_NET: (net, skb, ...)
 * @EVALUATOR_QUEUE: (nf_queue_entry, ...)
 */
enum evaluator_kind {
	EVALUATOR_SKB,
	EVALUATOR_NFT,
	EVALUATOR_TRACE,
	EVALUATOR_LOG,
	EVALUATOR_NET,
	EVALUATOR_QUEUE,
};

/**
 * enum rule_module - what the gate knows of a module that brings kinds of rules
 * @RULE_MODULE_KNOWN: its functions are watched, or need not be
 * @RULE_MODULE_ABSENT: they would have to be, but it was not there to be watched
 * @RULE_MODULE_UNKNOWN: it is loaded, and not watched: all flows stay in the host
 */
enum rule_module {
	RULE_MODULE_KNOWN,
	RULE_MODULE_ABSENT,
	RULE_MODULE_UNKNOWN,
};

#define RULE_MODULE_NAME 56
#define RULE_MODULES 256

/* how the names of such modules begin, other than those below */
#define RULE_MODULE_PREFIXES(X) X("nft_") X("xt_") X("ipt_") X("ip6t_")

/* X(module, function, kind), by module; those of the kernel itself first */
#define EVALUATORS(X)                                                      \
	X("", "nf_queue", SKB)                                             \
	X("", "nf_log_packet", LOG)                                        \
	X("", "nf_log_trace", LOG)                                         \
	X("nf_tables", "nft_dynset_eval", NFT)                             \
	X("nf_tables", "nft_last_eval", NFT)                               \
	X("nf_tables", "nft_exthdr_tcp_eval", NFT)                         \
	X("nf_tables", "nft_exthdr_tcp_set_eval", NFT)                     \
	X("nf_tables", "nft_exthdr_tcp_strip_eval", NFT)                   \
	X("nf_tables", "nft_payload_set_eval", NFT)                        \
	X("nf_tables", "nft_trace_notify", TRACE)                          \
	X("nft_limit", "nft_limit_pkts_eval", NFT)                         \
	X("nft_limit", "nft_limit_bytes_eval", NFT)                        \
	X("nft_limit", "nft_limit_obj_pkts_eval", NFT)                     \
	X("nft_limit", "nft_limit_obj_bytes_eval", NFT)                    \
	X("nft_quota", "nft_quota_eval", NFT)                              \
	X("nft_quota", "nft_quota_obj_eval", NFT)                          \
	X("nft_numgen", "nft_ng_inc_eval", NFT)                            \
	X("nft_numgen", "nft_ng_random_eval", NFT)                         \
	X("nft_log", "nft_log_eval", NFT)                                  \
	X("nft_tproxy", "nft_tproxy_eval", NFT)                            \
	X("nft_synproxy", "nft_synproxy_eval", NFT)                        \
	X("nft_synproxy", "nft_synproxy_obj_eval", NFT)                    \
	/* out of the queue again, after a while */                        \
	X("nfnetlink_queue", "nfqnl_reinject", QUEUE)                      \
	X("nf_conncount", "nf_conncount_add_skb", NET)                     \
	X("nf_conncount", "nf_conncount_count_skb", NET)                   \
	X("nf_dup_ipv4", "nf_dup_ipv4", NET)                               \
	X("nf_dup_ipv6", "nf_dup_ipv6", NET)                               \
	X("xt_limit", "limit_mt", SKB)                                     \
	X("xt_hashlimit", "hashlimit_mt", SKB)                             \
	X("xt_hashlimit", "hashlimit_mt_v1", SKB)                          \
	X("xt_hashlimit", "hashlimit_mt_v2", SKB)                          \
	X("xt_quota", "quota_mt", SKB)                                     \
	X("xt_statistic", "statistic_mt", SKB)                             \
	X("xt_recent", "recent_mt", SKB)                                   \
	X("xt_connbytes", "connbytes_mt", SKB)                             \
	X("xt_length", "length_mt", SKB)                                   \
	X("xt_length", "length_mt6", SKB)                                  \
	X("xt_u32", "u32_mt", SKB)                                         \
	X("xt_string", "string_mt", SKB)                                   \
	X("xt_mac", "mac_mt", SKB)                                         \
	X("xt_bpf", "bpf_mt", SKB)                                         \
	X("xt_bpf", "bpf_mt_v1", SKB)                                      \
	X("xt_time", "time_mt", SKB)                                       \
	X("xt_nfacct", "nfacct_mt", SKB)                                   \
	X("xt_rateest", "xt_rateest_mt", SKB)                              \
	X("xt_ecn", "ecn_mt4", SKB)                                        \
	X("xt_ecn", "ecn_mt6", SKB)                                        \
	X("xt_hl", "ttl_mt", SKB)                                          \
	X("xt_hl", "hl_mt6", SKB)                                          \
	X("xt_dscp", "dscp_mt", SKB)                                       \
	X("xt_dscp", "dscp_mt6", SKB)                                      \
	X("xt_dscp", "tos_mt", SKB)                                        \
	X("xt_cpu", "cpu_mt", SKB)                                         \
	/* these are the same for all packets until the machine changes */ \
	X("xt_physdev", "physdev_mt", SKB)                                 \
	X("xt_realm", "realm_mt", SKB)                                     \
	X("xt_cgroup", "cgroup_mt_v0", SKB)                                \
	X("xt_cgroup", "cgroup_mt_v1", SKB)                                \
	X("xt_cgroup", "cgroup_mt_v2", SKB)                                \
	X("xt_set", "set_target_v0", SKB)                                  \
	X("xt_set", "set_target_v1", SKB)                                  \
	X("xt_set", "set_target_v2", SKB)                                  \
	X("xt_set", "set_target_v3", SKB)                                  \
	X("xt_TPROXY", "tproxy_tg4_v0", SKB)                               \
	X("xt_TPROXY", "tproxy_tg4_v1", SKB)                               \
	X("xt_TPROXY", "tproxy_tg6_v1", SKB)                               \
	X("xt_AUDIT", "audit_tg", SKB)                                     \
	X("xt_DSCP", "dscp_tg", SKB)                                       \
	X("xt_DSCP", "dscp_tg6", SKB)                                      \
	X("xt_DSCP", "tos_tg", SKB)                                        \
	X("xt_DSCP", "tos_tg6", SKB)                                       \
	X("xt_HL", "ttl_tg", SKB)                                          \
	X("xt_HL", "hl_tg6", SKB)                                          \
	X("xt_LED", "led_tg", SKB)                                         \
	X("xt_RATEEST", "xt_rateest_tg", SKB)                              \
	X("xt_IDLETIMER", "idletimer_tg_target", SKB)                      \
	X("xt_IDLETIMER", "idletimer_tg_target_v1", SKB)                   \
	X("xt_TCPOPTSTRIP", "tcpoptstrip_tg4", SKB)                        \
	X("xt_TCPOPTSTRIP", "tcpoptstrip_tg6", SKB)                        \
	X("ipt_ECN", "ecn_tg", SKB)                                        \
	X("ipt_SYNPROXY", "synproxy_tg4", SKB)                             \
	X("ip6t_SYNPROXY", "synproxy_tg6", SKB)

#endif /* CHIMNEY_EVALUATORS_H */
