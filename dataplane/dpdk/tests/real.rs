//! The real library: EAL without hugepages, DPDK's null device, real buffers and routes.

use std::net::{Ipv4Addr, Ipv6Addr};

use arrayvec::ArrayVec;
use voicelane_dpdk::{
    BURST, Eal, EalConfig, EalError, Fib4, Fib6, Hugepages, Mempool, Port, PortConfig, PortError,
    TooLong, WorkerThread, tsc, tsc_hz,
};

/// EAL is a global of the process, so one test tells the whole story.
#[test]
fn buffers_ports_and_routes() {
    let config = EalConfig {
        vdevs: vec!["net_null0,size=100".to_owned()],
        hugepages: Hugepages::Never,
        memory_mib: 192,
        ..EalConfig::default()
    };
    let eal = Eal::init(&config).unwrap();
    assert!(!eal.hugepages());
    assert!(matches!(Eal::init(&config), Err(EalError::Twice)));
    assert!(Eal::version().starts_with("DPDK"));
    let _worker = WorkerThread::register().unwrap();

    let before = tsc();
    assert!(tsc() > before && tsc_hz() > 100_000_000);

    let pool = Mempool::create("test", 1023, 2048, -1).unwrap();
    assert_eq!(pool.free(), 1023);
    let mut buffer = pool.allocate().unwrap();
    buffer.write(&[7; 60]).unwrap();
    assert_eq!(buffer.bytes(), [7; 60]);
    buffer.bytes_mut()[59] = 8;
    assert_eq!(buffer.bytes()[58..], [7, 8]);
    assert!(buffer.is_contiguous());
    assert_eq!(buffer.stripped_vlan(), None);
    assert!(buffer.grow_front(4), "there is headroom");
    assert_eq!((buffer.bytes().len(), buffer.bytes()[63]), (64, 8));
    assert!(buffer.shrink_front(5));
    assert_eq!((buffer.bytes().len(), buffer.bytes()[58]), (59, 8));
    assert!(!buffer.shrink_front(60), "more than there is");
    assert!(buffer.grow_front(129), "all that there is in front");
    assert!(!buffer.grow_front(1), "no headroom left");
    assert_eq!((buffer.bytes().len(), buffer.bytes()[187]), (188, 8));
    assert!(buffer.shrink_front(128));
    assert_eq!(
        buffer.write(&[0; 2049]),
        Err(TooLong {
            frame_bytes: 2049,
            buffer_bytes: 2048
        })
    );
    drop(buffer);
    let all: Vec<_> = std::iter::from_fn(|| pool.allocate()).collect();
    assert_eq!(all.len(), 1023, "exactly as many buffers as there are");
    drop(all);
    assert_eq!(pool.free(), 1023);

    let setup = PortConfig {
        queues: 1,
        rx_ring: 128,
        tx_ring: 64,
        mtu: 1500,
    };
    assert!(matches!(
        Port::configure("net_none9", &setup, pool),
        Err(PortError::Missing(_))
    ));
    let port = Port::configure("net_null0", &setup, pool).unwrap();
    assert_eq!(port.driver(), "net_null");
    let (mut rx, mut tx) = port.start(1).unwrap().pop().unwrap();
    assert!(port.link().unwrap().up);
    let mut burst = ArrayVec::<_, 40>::new();
    burst.push(pool.allocate().unwrap());
    assert_eq!(rx.receive(&mut burst), 39, "as many as there is room for");
    assert!(burst[1..].iter().all(|packet| packet.bytes().len() == 100));
    assert_eq!(rx.receive(&mut burst), 0, "no room");
    assert_eq!(tx.send(&mut burst), 40);
    assert!(burst.is_empty());
    assert_eq!(pool.free(), 1023, "every buffer came back");

    let mut fib = Fib4::create("test", 1000, -1).unwrap();
    let address = Ipv4Addr::new;
    let look = |fib: &Fib4, ip: Ipv4Addr| {
        let mut found = [9; BURST];
        fib.lookup(&[ip.into()], &mut found);
        assert_eq!(found[1..], [9; BURST - 1], "no more than asked for");
        u16::try_from(found[0]).unwrap()
    };
    assert_eq!(look(&fib, address(10, 1, 2, 3)), Fib4::NONE);
    fib.insert(address(0, 0, 0, 0), 0, 1).unwrap();
    fib.insert(address(10, 0, 0, 0), 8, 2).unwrap();
    fib.insert(address(10, 1, 2, 0), 24, 3).unwrap();
    fib.insert(address(10, 1, 2, 3), 32, Fib4::MAX_NEXT_HOP)
        .unwrap();
    for (ip, next_hop) in [
        (address(10, 1, 2, 3), Fib4::MAX_NEXT_HOP),
        (address(10, 1, 2, 4), 3),
        (address(10, 9, 9, 9), 2),
        (address(8, 8, 8, 8), 1),
    ] {
        assert_eq!(look(&fib, ip), next_hop, "{ip}");
    }
    fib.remove(address(10, 1, 2, 3), 32).unwrap();
    assert_eq!(look(&fib, address(10, 1, 2, 3)), 3);
    assert!(
        fib.remove(address(10, 1, 2, 3), 32).is_err(),
        "not there any more"
    );
    fib.remove(address(0, 0, 0, 0), 0).unwrap();
    assert_eq!(look(&fib, address(8, 8, 8, 8)), Fib4::NONE);
    assert!(fib.insert(address(1, 0, 0, 0), 33, 1).is_err());
    assert!(fib.insert(address(1, 0, 0, 0), 8, 1 << 15).is_err());
    let many: Vec<u32> = (0..150)
        .map(|host| u32::from(address(10, 1, 2, 0)) + host)
        .collect();
    let mut found = [0; BURST];
    fib.lookup(&many, &mut found);
    assert_eq!(found, [3; BURST], "as many as a burst");

    // The name is IPv4's, too.
    let mut fib = Fib6::create("test", 1000, -1).unwrap();
    let look = |fib: &Fib6, ip: &str| {
        let mut found = [9; BURST];
        fib.lookup(&[ip.parse::<Ipv6Addr>().unwrap().octets()], &mut found);
        u16::try_from(found[0]).unwrap()
    };
    assert_eq!(look(&fib, "2001:db8::1"), Fib6::NONE);
    for (prefix, length, next_hop) in [
        ("::", 0, 1),
        ("2001:db8::", 32, 2),
        ("2001:db8:1::", 48, 3),
        ("2001:db8:1::5", 128, 4),
    ] {
        fib.insert(prefix.parse().unwrap(), length, next_hop)
            .unwrap();
    }
    for (ip, next_hop) in [
        ("2001:db8:1::5", 4),
        ("2001:db8:1::6", 3),
        ("2001:db8:2::1", 2),
        ("2a00::1", 1),
    ] {
        assert_eq!(look(&fib, ip), next_hop, "{ip}");
    }
    let host = "2001:db8:1::5".parse().unwrap();
    fib.remove(host, 128).unwrap();
    assert_eq!(look(&fib, "2001:db8:1::5"), 3);
    assert!(fib.remove(host, 128).is_err(), "not there any more");
    assert!(fib.insert(host, 129, 1).is_err());
}
