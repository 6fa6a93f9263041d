use super::*;

#[test]
fn levels_and_attributes_are_read() {
    let session = read(
        b"v=0\no=- 1 7 IN IP4 10.1.0.5\r\ns=\xe9\nc=IN IP4 10.1.0.5\nb=AS:1000\nt=0 0\na=sendonly\n\
          a=group:BUNDLE 0 v\na=group:LS 0 v\na=fingerprint:sha-256 AA:BB\na=ptime:30\nthis is no line\n\
          m=audio 4000/2 RTP/SAVP 8 111 101 x 300\nb=RR:bad\nb=TIAS:64000\na=rtpmap:111 opus/48000/2\n\
          a=rtpmap:101 telephone-event/8000\na=fmtp:111 maxaveragebitrate=20000;useinbandfec=1\n\
          a=ptime:20\na=maxptime:60\na=rtcp:4100 IN IP4 10.1.0.6\na=rtcp-mux\na=mid:0\na=inactive\n\
          a=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:abc|2^31|1:4\na=crypto:2 aes_cm_128_hmac_sha1_32 inline:abc\n\
          a=candidate:1 1 UDP 1 10.1.0.5 4000 typ host\na=extmap:1 urn:x\na=maxprate:50.0\n\
          m=video 0 UDP/TLS/RTP/SAVPF 96\nc=IN IP6 2001:db8::5\na=bundle-only\na=mid:v\n\
          m=image 5000 udptl t38\nc=IN IP4 fax.example.net\n\
          m=audio x RTP/AVP 0\na=inactive\n\
          m=message 2855 TCP/MSRP *\n",
    )
    .unwrap();
    assert_eq!(session.version, Some(7));
    assert_eq!(
        session.bundles,
        [vec![Box::from(b"0".as_slice()), Box::from(b"v".as_slice())]]
    );
    let [audio, video, fax, message] = session.streams.as_slice() else {
        panic!("{:?}", session.streams)
    };
    assert_eq!(
        (audio.kind, audio.port, audio.ports),
        (Kind::Audio, 4000, 2)
    );
    assert_eq!(audio.transport, Transport::Srtp);
    let types: Vec<_> = audio
        .formats
        .iter()
        .map(|format| format.payload_type)
        .collect();
    assert_eq!(types, [8, 111, 101]);
    assert_eq!(
        audio.formats[1].encoding.as_ref().map(|of| of.channels),
        Some(2)
    );
    assert!(
        audio.formats[1]
            .parameters
            .as_ref()
            .is_some_and(|of| of.starts_with(b"maxaverage"))
    );
    assert_eq!(
        (audio.ptime_ms, audio.maxptime_ms, audio.maxprate),
        (Some(20), Some(60), Some(50))
    );
    assert_eq!(audio.direction, Direction::Inactive);
    let rtcp = audio.rtcp.unwrap();
    assert_eq!(
        (rtcp.port, rtcp.address.unwrap().to_string()),
        (4100, "10.1.0.6".into())
    );
    assert!(audio.rtcp_mux && audio.fingerprint && audio.extmap && audio.ice);
    assert_eq!(audio.crypto[0].mki_bytes, 4);
    assert_eq!(&*audio.crypto[1].suite, "AES_CM_128_HMAC_SHA1_32");
    assert_eq!(
        audio.bandwidth,
        Bandwidth {
            as_kbps: Some(1000),
            tias_bps: Some(64_000)
        }
    );
    assert!(video.bundle_only && !video.is_removed() && video.port == 0);
    assert_eq!(video.direction, Direction::SendOnly);
    assert_eq!(video.ptime_ms, Some(30));
    assert_eq!(
        video.connection,
        Some(Connection::Address("2001:db8::5".parse().unwrap()))
    );
    assert_eq!(
        (fax.kind, fax.transport, fax.connection),
        (Kind::Image, Transport::Udp, Some(Connection::Name))
    );
    assert_eq!(message.transport, Transport::Other);
}

#[test]
fn what_is_no_sdp_is_refused() {
    assert_eq!(read(b""), Err(Refused::NotSdp));
    assert_eq!(read(b"hello=world\r\na=sendonly\r\n"), Err(Refused::NotSdp));
    assert!(read(b"v=0\r\n").is_ok());
}

#[test]
fn streams_and_formats_are_bounded() {
    let line = format!("m=audio 4000 RTP/AVP{}\na=mid:x\n", " 0".repeat(150));
    let session = read(format!("v=0\n{}", line.repeat(40)).as_bytes()).unwrap();
    assert_eq!(session.streams.len(), MAX_STREAMS);
    assert_eq!(session.streams[0].formats.len(), MAX_FORMATS);
    let formats: usize = session
        .streams
        .iter()
        .map(|stream| stream.formats.len())
        .sum();
    assert_eq!(formats, 512);
    assert_eq!(read(&[b'm'; MAX_TEXT + 1]), Err(Refused::TooLong));
}
