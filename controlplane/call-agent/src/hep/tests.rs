use super::*;

fn chunk(kind: u16, value: &[u8]) -> Vec<u8> {
    let length = u16::try_from(6 + value.len()).unwrap();
    [
        &[0, 0],
        kind.to_be_bytes().as_slice(),
        &length.to_be_bytes(),
        value,
    ]
    .concat()
}

fn frame(chunks: &[Vec<u8>]) -> Vec<u8> {
    let body = chunks.concat();
    let length = u16::try_from(6 + body.len()).unwrap();
    [MAGIC.as_slice(), &length.to_be_bytes(), &body].concat()
}

fn full() -> Vec<Vec<u8>> {
    vec![
        chunk(1, &[2]),
        chunk(2, &[17]),
        chunk(3, &[10, 1, 0, 5]),
        chunk(4, &[10, 9, 0, 1]),
        chunk(7, &5060_u16.to_be_bytes()),
        chunk(8, &5062_u16.to_be_bytes()),
        chunk(9, &1_700_000_000_u32.to_be_bytes()),
        chunk(10, &250_000_u32.to_be_bytes()),
        chunk(11, &[1]),
        chunk(12, &2001_u32.to_be_bytes()),
        chunk(14, b"secret"),
        chunk(17, b"corr"),
        chunk(999, b"?"),
        chunk(15, b"OPTIONS"),
    ]
}

#[test]
fn a_frame_is_read() {
    let bytes = [frame(&full()).as_slice(), b"padding"].concat();
    let packet = read(&bytes).unwrap();
    assert_eq!(packet.source, Some("10.1.0.5:5060".parse().unwrap()));
    assert_eq!(packet.destination, Some("10.9.0.1:5062".parse().unwrap()));
    assert_eq!(packet.captured_us, Some(1_700_000_000_250_000));
    assert_eq!(packet.kind, Kind::Sip);
    assert_eq!(packet.key, Some(b"secret".as_slice()));
    assert_eq!(&*packet.payload, b"OPTIONS");
}

#[test]
fn a_frame_needs_only_its_payload() {
    let bytes = frame(&[
        chunk(15, b"x"),
        chunk(3, b"10.1.0.5"),
        chunk(12, &[1, 2]),
        vec![0, 0],
    ]);
    let packet = read(&bytes).unwrap();
    assert_eq!(
        (packet.source, packet.captured_us, packet.key),
        (None, None, None)
    );
}

#[test]
fn refusals_say_why() {
    let whole = frame(&full());
    assert_eq!(read(b"x"), Err(Refused::Magic));
    assert_eq!(read(&[2, 16, 2, 17, 0, 0]), Err(Refused::Version(2)));
    assert_eq!(read(b"HEP3\0"), Err(Refused::Length { said: 0, came: 5 }));
    let said = whole.len();
    assert_eq!(
        read(&whole[..said - 1]),
        Err(Refused::Length {
            said,
            came: said - 1
        })
    );
    assert_eq!(read(&frame(&[chunk(9, b"abcd")])), Err(Refused::NoPayload));
    assert_eq!(
        read(&frame(&[vec![0, 0, 0, 15, 0, 5]])),
        Err(Refused::Chunk(15))
    );
    assert_eq!(
        read(&frame(&[vec![0, 0, 0, 15, 0, 99]])),
        Err(Refused::Chunk(15))
    );
    assert_eq!(
        read(&frame(&[chunk(16, b"damaged")])),
        Err(Refused::Compressed)
    );
}

#[test]
fn compressed_payloads_are_inflated_within_bounds() {
    use miniz_oxide::deflate::{compress_to_vec, compress_to_vec_zlib};

    let text = b"OPTIONS sip:x SIP/2.0".repeat(20);
    let gzip = |flags: u8, header: &[u8]| {
        [
            &[0x1f, 0x8b, 8, flags, 0, 0, 0, 0, 0, 3],
            header,
            &compress_to_vec(&text, 6),
            &[0; 8],
        ]
        .concat()
    };
    for compressed in [
        compress_to_vec_zlib(&text, 6),
        compress_to_vec(&text, 6),
        gzip(0, b""),
        gzip(4 | 8 | 16 | 2, b"\x02\0abname\0comment\0cc"),
    ] {
        assert_eq!(
            *read(&frame(&[chunk(16, &compressed)])).unwrap().payload,
            text
        );
    }
    let bomb = compress_to_vec_zlib(&vec![0; 70_000], 9);
    assert_eq!(read(&frame(&[chunk(16, &bomb)])), Err(Refused::Compressed));
    assert_eq!(
        read(&frame(&[chunk(16, &[0x1f, 0x8b, 8, 8, 0, 0, 0, 0, 0, 3])])),
        Err(Refused::Compressed)
    );
}

#[test]
fn frames_come_out_of_a_stream_however_it_is_cut() {
    let one = frame(&full());
    let bytes = [one.as_slice(), b"garbage HE", &one, b"HEP3\0\0", &one].concat();
    for step in 1..bytes.len() {
        let (mut frames, mut count) = (Frames::default(), 0);
        for part in bytes.chunks(step) {
            frames.push(part);
            while let Some(frame) = frames.next_frame().unwrap() {
                assert_eq!(frame, one);
                count += 1;
            }
        }
        assert_eq!(count, 3, "in parts of {step}");
    }
}

#[test]
fn a_stream_without_frames_is_given_up() {
    let mut frames = Frames::default();
    for _ in 0..100 {
        frames.push(&[b'x'; 1000]);
        match frames.next_frame() {
            Ok(None) => assert!(frames.skipped() <= MAX_SKIPPED),
            other => return assert_eq!(other, Err(NotHep)),
        }
    }
    panic!("it goes on");
}
