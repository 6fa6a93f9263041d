//! gRPC streams written frame by frame: what a client library would put together stays apart.

use std::{net::SocketAddr, time::Duration};

use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};
use h2::{
    RecvStream, SendStream,
    client::{ResponseFuture, SendRequest},
};
use prost::Message;
use tokio::{net::TcpStream, time::timeout};

use crate::common::PATIENCE;

/// A client's connection.
#[derive(Clone)]
pub(crate) struct Wire {
    requests: SendRequest<Bytes>,
    address: SocketAddr,
}

/// The sending half of a call.
pub(crate) struct Sending(pub(crate) SendStream<Bytes>);

/// The receiving half of a call.
pub(crate) struct Receiving {
    body: RecvStream,
    buffer: BytesMut,
}

impl Wire {
    pub(crate) async fn connect(address: SocketAddr) -> Self {
        let tcp = TcpStream::connect(address).await.unwrap();
        tcp.set_nodelay(true).unwrap();
        let mut builder = h2::client::Builder::new();
        builder
            .initial_connection_window_size(64 * 1024 * 1024)
            .data_frame_budget(1 << 30)
            .initial_max_send_streams(4_096);
        let (requests, connection) = builder.handshake(tcp).await.unwrap();
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                eprintln!("the connection ended: {error}");
            }
        });
        Self { requests, address }
    }

    /// Begins a call of this method ("/package.Service/Method").
    pub(crate) async fn call(&self, method: &str) -> (Sending, ResponseFuture) {
        let request = http::Request::post(format!("http://{}{method}", self.address))
            .header("content-type", "application/grpc")
            .header("te", "trailers")
            .body(())
            .unwrap();
        let mut requests = self.requests.clone().ready().await.unwrap();
        let (response, sending) = requests.send_request(request, false).unwrap();
        (Sending(sending), response)
    }
}

impl Sending {
    /// Sends a message in a DATA frame of its own, when flow control lets it go.
    pub(crate) async fn send(&mut self, message: &impl Message) -> Result<(), h2::Error> {
        self.bytes(framed(message)).await
    }

    /// Sends bytes in a DATA frame of their own.
    pub(crate) async fn bytes(&mut self, bytes: Bytes) -> Result<(), h2::Error> {
        self.0.reserve_capacity(bytes.len());
        while self.0.capacity() < bytes.len() {
            match std::future::poll_fn(|cx| self.0.poll_capacity(cx)).await {
                Some(more) => more?,
                None => return Err(h2::Reason::STREAM_CLOSED.into()),
            };
        }
        self.0.send_data(bytes, false)
    }
}

/// A message with gRPC's prefix: not compressed, length.
pub(crate) fn framed(message: &impl Message) -> Bytes {
    let mut bytes = BytesMut::new();
    bytes.put_u8(0);
    bytes.put_u32(u32::try_from(message.encoded_len()).unwrap());
    message.encode(&mut bytes).unwrap();
    bytes.freeze()
}

impl Receiving {
    pub(crate) async fn of(response: ResponseFuture) -> Self {
        let response = timeout(PATIENCE, response).await.unwrap().unwrap();
        Self {
            body: response.into_body(),
            buffer: BytesMut::new(),
        }
    }

    /// The next message; absent at the end.
    pub(crate) async fn message<M: Message + Default>(&mut self) -> Result<Option<M>, h2::Error> {
        loop {
            if let Some(length) = self.buffer.get(1..5) {
                let length = u32::from_be_bytes(length.try_into().unwrap()) as usize;
                if self.buffer.len() >= 5 + length {
                    self.buffer.advance(5);
                    return Ok(Some(M::decode(self.buffer.split_to(length)).unwrap()));
                }
            }
            let Some(data) = timeout(3 * PATIENCE, self.body.data()).await.unwrap() else {
                return Ok(None);
            };
            let data = data?;
            self.body.flow_control().release_capacity(data.len())?;
            self.buffer.extend_from_slice(&data);
        }
    }
}

/// Longer than a flood takes.
pub(crate) const FLOOD_PATIENCE: Duration = Duration::from_secs(120);
