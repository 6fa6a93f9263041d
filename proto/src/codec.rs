//! tonic's protobuf codec with another status for a request that cannot be decoded.

use std::marker::PhantomData;

use prost::{Message, Name};
use tonic::{
    Status,
    codec::{BufferSettings, DecodeBuf, Decoder},
};
use tonic_prost::{ProstCodec, ProstEncoder};

/// Encodes `T` and decodes `U`.
#[derive(Clone, Debug)]
pub struct Codec<T, U>(PhantomData<(T, U)>);

impl<T, U> Default for Codec<T, U> {
    fn default() -> Self {
        Self(PhantomData)
    }
}

impl<T, U> tonic::codec::Codec for Codec<T, U>
where
    T: Message + Send + 'static,
    U: Message + Name + Default + Send + 'static,
{
    type Encode = T;
    type Decode = U;
    type Encoder = ProstEncoder<T>;
    type Decoder = Decode<U>;

    fn encoder(&mut self) -> Self::Encoder {
        ProstCodec::<T, U>::raw_encoder(BufferSettings::default())
    }

    fn decoder(&mut self) -> Self::Decoder {
        Decode(PhantomData)
    }
}

/// Decodes `U`; a request that is malformed is INVALID_ARGUMENT.
#[derive(Clone, Debug)]
pub struct Decode<U>(PhantomData<U>);

impl<U: Message + Name + Default> Decoder for Decode<U> {
    type Item = U;
    type Error = Status;

    fn decode(&mut self, bytes: &mut DecodeBuf<'_>) -> Result<Option<U>, Status> {
        U::decode(bytes).map(Some).map_err(|error| {
            let reason = format!("this is no {}: {error}", U::full_name());
            // tonic says INTERNAL for both, but a bad request is the client's fault.
            if U::NAME.ends_with("Request") {
                Status::invalid_argument(reason)
            } else {
                Status::internal(reason)
            }
        })
    }
}
