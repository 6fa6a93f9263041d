//! gRPC streams written frame by frame, and not read unless asked for.

use anyhow::Context as _;
use bytes::{BufMut as _, Bytes, BytesMut};
use h2::{
    RecvStream, SendStream,
    client::{ResponseFuture, SendRequest},
};
use prost::Message;
use tokio::net::TcpStream;

/// A client's connection to the measured server.
#[derive(Clone)]
pub(crate) struct Wire {
    requests: SendRequest<Bytes>,
    authority: String,
}

impl Wire {
    pub(crate) async fn connect(authority: &str) -> anyhow::Result<Self> {
        let tcp = TcpStream::connect(authority).await?;
        tcp.set_nodelay(true)?;
        let mut builder = h2::client::Builder::new();
        builder
            .initial_connection_window_size(64 * 1024 * 1024)
            .initial_max_send_streams(4_096);
        let (requests, connection) = builder.handshake(tcp).await?;
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                eprintln!("a connection ended: {error}");
            }
        });
        Ok(Self {
            requests,
            authority: authority.to_owned(),
        })
    }

    /// Begins a call of this method ("/package.Service/Method").
    pub(crate) async fn call(
        &self,
        method: &str,
    ) -> anyhow::Result<(SendStream<Bytes>, ResponseFuture)> {
        let request = http::Request::post(format!("http://{}{method}", self.authority))
            .header("content-type", "application/grpc")
            .header("te", "trailers")
            .body(())?;
        let mut requests = self.requests.clone().ready().await?;
        let (response, sending) = requests.send_request(request, false)?;
        Ok((sending, response))
    }
}

/// Sends a message in a DATA frame of its own, when flow control lets it go.
pub(crate) async fn send(
    stream: &mut SendStream<Bytes>,
    message: &impl Message,
    last: bool,
) -> anyhow::Result<()> {
    let mut bytes = BytesMut::new();
    bytes.put_u8(0);
    bytes.put_u32(u32::try_from(message.encoded_len())?);
    message.encode(&mut bytes)?;
    stream.reserve_capacity(bytes.len());
    while stream.capacity() < bytes.len() {
        std::future::poll_fn(|cx| stream.poll_capacity(cx))
            .await
            .context("the stream is closed")??;
    }
    Ok(stream.send_data(bytes.freeze(), last)?)
}

/// Reads messages of a stream, each when it is asked for.
pub(crate) struct Reading {
    body: RecvStream,
    buffer: BytesMut,
}

impl Reading {
    pub(crate) async fn of(response: ResponseFuture) -> anyhow::Result<Self> {
        Ok(Self {
            body: response.await?.into_body(),
            buffer: BytesMut::new(),
        })
    }

    pub(crate) async fn message<M: Message + Default>(&mut self) -> anyhow::Result<M> {
        loop {
            if let Some(length) = self.buffer.get(1..5) {
                let length = usize::try_from(u32::from_be_bytes(length.try_into()?))?;
                if self.buffer.len() >= 5 + length {
                    let message = self.buffer.split_to(5 + length).freeze().slice(5..);
                    return Ok(M::decode(message)?);
                }
            }
            let data = self.body.data().await.context("the stream ended")??;
            self.body.flow_control().release_capacity(data.len())?;
            self.buffer.extend_from_slice(&data);
        }
    }
}
