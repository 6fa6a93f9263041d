//! VLAN tags (IEEE 802.1Q): taken off what comes in, put on what is addressed to go out.

use crate::device::SERVICE_TAGGED_BYTES;

use crate::{
    device::Buffer,
    stats::DropReason,
    wire::{EtherType, TAG_BYTES, Tci},
};

/// Takes the tag off a frame that has one, in its bytes or already by the device, and gives what it
/// says; `None` when there is none.
pub(crate) fn take<B: Buffer>(buffer: &mut B) -> Result<Option<Tci>, DropReason> {
    if let Some(tci) = buffer.stripped_vlan() {
        if buffer.bytes().len() == SERVICE_TAGGED_BYTES {
            return Err(DropReason::DoubleTagged);
        }
        return Ok(Some(Tci(tci)));
    }
    let frame = buffer.bytes_mut();
    if frame.get(12..14) != Some(&EtherType::VLAN.0.to_be_bytes()) {
        return Ok(None);
    }
    if frame.len() == SERVICE_TAGGED_BYTES + usize::from(TAG_BYTES) {
        return Err(DropReason::DoubleTagged); // Or the device put the tag in again.
    }
    // Two addresses, the tag, and the type of what it is before.
    let head: &mut [u8; 18] = frame.first_chunk_mut().ok_or(DropReason::Runt)?;
    let tci = Tci(u16::from_be_bytes([head[14], head[15]]));
    head.copy_within(..12, 4);
    if buffer.shrink_front(TAG_BYTES) {
        Ok(Some(tci))
    } else {
        Err(DropReason::Runt)
    }
}

/// Puts a tag behind a frame's addresses.
pub(crate) fn put<B: Buffer>(buffer: &mut B, tci: Tci) -> Result<(), DropReason> {
    if buffer.bytes().len() < 12 {
        return Err(DropReason::Runt);
    }
    if !buffer.grow_front(TAG_BYTES) {
        return Err(DropReason::NoHeadroom);
    }
    if let Some(head) = buffer.bytes_mut().first_chunk_mut::<16>() {
        head.copy_within(4.., 0);
        head[12..14].copy_from_slice(&EtherType::VLAN.0.to_be_bytes());
        head[14..].copy_from_slice(&tci.0.to_be_bytes());
    }
    Ok(())
}
