//! Calls as a proxy mirrors them.

/// A call between two phones; its number makes its ports.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Call(pub(crate) u16);

const AGAIN: u16 = 10_000;

impl Call {
    /// A later call on the same ports.
    pub(crate) fn again(self) -> Self {
        Self(self.0 + AGAIN)
    }

    fn ports(self) -> [u16; 2] {
        [10_000, 30_000].map(|base| base + 2 * (self.0 % AGAIN))
    }

    /// INVITE, 180, 200 and ACK.
    pub(crate) fn begin(&self) -> Vec<String> {
        let [caller, callee] = self.ports();
        vec![
            self.message(
                "INVITE sip:b@x SIP/2.0",
                1,
                "INVITE",
                "",
                &sdp("10.1.0.5", caller),
            ),
            self.message("SIP/2.0 180 Ringing", 1, "INVITE", ";tag=b", ""),
            self.message(
                "SIP/2.0 200 OK",
                1,
                "INVITE",
                ";tag=b",
                &sdp("10.2.0.7", callee),
            ),
            self.message("ACK sip:b@x SIP/2.0", 1, "ACK", ";tag=b", ""),
            // As a proxy has both hops of everything.
            self.second(
                1,
                "INVITE",
                &sdp("10.1.0.5", caller),
                &sdp("10.2.0.7", callee),
            ),
        ]
        .into_iter()
        .flat_map(|message| message.split('\0').map(str::to_owned).collect::<Vec<_>>())
        .collect()
    }

    /// BYE and its 200, on both hops.
    pub(crate) fn end(&self) -> Vec<String> {
        vec![
            self.message("BYE sip:b@x SIP/2.0", 2, "BYE", ";tag=b", ""),
            self.hop("BYE sip:b@x SIP/2.0", 2, "BYE", ";tag=b", ""),
            self.hop("SIP/2.0 200 OK", 2, "BYE", ";tag=b", ""),
            self.message("SIP/2.0 200 OK", 2, "BYE", ";tag=b", ""),
        ]
    }

    /// The INVITE and its 200 on the second hop, a NUL between.
    fn second(&self, cseq: u32, method: &str, offer: &str, answer: &str) -> String {
        let invite = self.hop("INVITE sip:b@x SIP/2.0", cseq, method, "", offer);
        let ok = self.hop("SIP/2.0 200 OK", cseq, method, ";tag=b", answer);
        format!("{invite}\0{ok}")
    }

    fn message(&self, start: &str, cseq: u32, method: &str, tag: &str, sdp: &str) -> String {
        self.with_vias(start, "", cseq, method, tag, sdp)
    }

    fn hop(&self, start: &str, cseq: u32, method: &str, tag: &str, sdp: &str) -> String {
        let via = format!(
            "Via: SIP/2.0/UDP 10.9.0.1;branch=z9hG4bKp{}{method}\r\n",
            self.0
        );
        self.with_vias(start, &via, cseq, method, tag, sdp)
    }

    fn with_vias(
        &self,
        start: &str,
        via: &str,
        cseq: u32,
        method: &str,
        tag: &str,
        sdp: &str,
    ) -> String {
        let call = self.0;
        let length = sdp.len();
        format!(
            "{start}\r\n{via}Via: SIP/2.0/UDP 10.1.0.5;branch=z9hG4bKc{call}{method}\r\n\
             From: <sip:a@x>;tag=a\r\nTo: <sip:b@x>{tag}\r\nCall-ID: call-{call}\r\n\
             CSeq: {cseq} {method}\r\nContent-Type: application/sdp\r\n\
             Content-Length: {length}\r\n\r\n{sdp}"
        )
    }

    /// As the server has them.
    pub(crate) fn flows(self) -> [String; 2] {
        let [caller, callee] = self.ports();
        let (a, b) = (format!("10.1.0.5:{caller}"), format!("10.2.0.7:{callee}"));
        [
            format!("{a} > {b} 80000 next"),
            format!("{b} > {a} 80000 next"),
        ]
    }
}

fn sdp(address: &str, port: u16) -> String {
    format!(
        "v=0\r\no=- 1 1 IN IP4 {address}\r\ns=-\r\nc=IN IP4 {address}\r\nt=0 0\r\n\
         m=audio {port} RTP/AVP 8\r\n"
    )
}

/// A HEP frame of a message.
pub(crate) fn frame(message: &str, key: &[u8]) -> Vec<u8> {
    let mut frame = Vec::from(b"HEP3\0\0");
    let mut chunk = |kind: u16, value: &[u8]| {
        let length = u16::try_from(value.len() + 6).unwrap();
        frame.extend_from_slice(&[0, 0]);
        frame.extend_from_slice(&kind.to_be_bytes());
        frame.extend_from_slice(&length.to_be_bytes());
        frame.extend_from_slice(value);
    };
    chunk(11, &[1]);
    chunk(14, key);
    chunk(15, message.as_bytes());
    let length = u16::try_from(frame.len()).unwrap();
    frame[4..6].copy_from_slice(&length.to_be_bytes());
    frame
}
