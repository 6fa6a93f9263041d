//! The real library: EAL without hugepages, DPDK's null device, real buffers and memory.

use arrayvec::ArrayVec;
use voicelane_dpdk::{
    Description, Eal, EalConfig, EalError, Hugepages, Mempool, Port, PortConfig, PortError,
    TooLong, WorkerThread, tsc, tsc_hz,
};
use voicelane_machine::{Memory, NoMemory, Slab};

/// EAL is a global of the process, so one test tells the whole story.
#[test]
fn buffers_ports_and_memory() {
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
    buffer.truncate(61);
    assert_eq!(buffer.bytes().len(), 60, "it is not longer");
    buffer.truncate(40);
    assert_eq!((buffer.bytes().len(), buffer.bytes()[39]), (40, 7));
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
    assert!(matches!(
        Description::of("net_none9"),
        Err(PortError::Missing(_))
    ));
    let null = Description::of("net_null0").unwrap();
    assert_eq!(
        (null.driver.as_str(), null.spreads_flows),
        ("net_null", true)
    );
    assert!(null.receive_queues > 1);
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

    let mut memory = Memory::<u64>::zeroed("test", 1_000, eal.memory()).unwrap();
    assert_eq!(memory.len(), 1_000);
    assert!(memory.iter().all(|&word| word == 0));
    memory.fill(7);
    drop(memory);
    let again = Memory::<[u64; 2]>::zeroed("test", 500, eal.memory()).unwrap();
    assert!(again.iter().all(|&words| words == [0, 0]), "anew");
    let bytes = 1 << 30;
    let error = Memory::<u16>::zeroed("test", bytes / 2, eal.memory()).unwrap_err();
    assert_eq!(error, NoMemory { bytes });
    let mut slab = Slab::with_capacity("test", bytes, eal.memory());
    assert!(slab.push(7_u8), "the heap has it");
}
