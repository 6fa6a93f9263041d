use std::{ffi::CString, fmt, ptr::NonNull, slice};

use arrayvec::ArrayVec;
use thiserror::Error;
use voicelane_dpdk_sys as sys;

use crate::Errno;

/// Why a pool could not be made.
#[derive(Debug, Error)]
#[allow(missing_docs, reason = "the messages say it")]
pub enum MempoolError {
    /// The name holds a NUL byte.
    #[error("pool name {0:?} holds a NUL byte")]
    Name(String),
    /// DPDK refused, mostly for want of memory.
    #[error("a pool of {count} buffers of {frame_bytes} bytes could not be made: {errno}")]
    Create {
        count: u32,
        frame_bytes: u16,
        errno: Errno,
    },
}

/// A pool of packet buffers. It lives as long as the process, so buffers need not refer to it.
#[derive(Clone, Copy, Debug)]
pub struct Mempool {
    raw: NonNull<sys::rte_mempool>,
    count: u32,
}

// SAFETY: rte_mempool is a multi-producer, multi-consumer structure.
unsafe impl Send for Mempool {}
// SAFETY: as above; every method takes a shared reference on DPDK's side.
unsafe impl Sync for Mempool {}

impl Mempool {
    /// Makes a pool of `count` buffers for frames of up to `frame_bytes`, in the memory of `socket`
    /// (a NUMA node; -1 for any).
    pub fn create(
        name: &str,
        count: u32,
        frame_bytes: u16,
        socket: i32,
    ) -> Result<Self, MempoolError> {
        let c_name = CString::new(name).map_err(|_| MempoolError::Name(name.to_owned()))?;
        #[allow(
            clippy::cast_possible_truncation,
            reason = "DPDK's headroom is a small constant"
        )]
        let room = frame_bytes.saturating_add(sys::VL_HEADROOM as u16);
        // A worker's cache; DPDK asks for less than two thirds of the pool.
        let cache = (sys::VL_CACHE_MAX / 2).min(count / 4);
        // SAFETY: the name is a NUL-terminated string that DPDK copies.
        let raw =
            unsafe { sys::rte_pktmbuf_pool_create(c_name.as_ptr(), count, cache, 0, room, socket) };
        let raw = NonNull::new(raw).ok_or_else(|| MempoolError::Create {
            count,
            frame_bytes,
            errno: Errno::last(),
        })?;
        Ok(Self { raw, count })
    }

    /// A buffer with an empty frame; `None` when the pool is exhausted.
    #[must_use]
    pub fn allocate(&self) -> Option<Mbuf> {
        // SAFETY: the pool lives as long as the process.
        NonNull::new(unsafe { sys::vl_mbuf_alloc(self.raw.as_ptr()) }).map(Mbuf)
    }

    /// How many buffers the pool was made with.
    #[must_use]
    pub fn count(&self) -> u32 {
        self.count
    }

    /// Buffers that are free, those in threads' caches included. Walks the caches: not for each packet.
    #[must_use]
    pub fn free(&self) -> u32 {
        // SAFETY: the pool lives as long as the process.
        unsafe { sys::rte_mempool_avail_count(self.raw.as_ptr()) }
    }

    pub(crate) fn as_ptr(&self) -> *mut sys::rte_mempool {
        self.raw.as_ptr()
    }
}

/// A frame is longer than the buffer.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[error("{frame_bytes} bytes do not fit in a buffer of {buffer_bytes}")]
pub struct TooLong {
    /// What was to be written.
    pub frame_bytes: usize,
    /// What there is room for.
    pub buffer_bytes: usize,
}

/// A packet buffer that this value owns, with one reference and normally one segment.
#[repr(transparent)]
pub struct Mbuf(NonNull<sys::rte_mbuf>);

// SAFETY: an mbuf is plain memory with one owner; pools take frees from any thread.
unsafe impl Send for Mbuf {}

impl Mbuf {
    /// Reads the field of type `T` at `offset`.
    #[inline]
    fn field<T: Copy>(&self, offset: sys::vl_mbuf_offset) -> T {
        // SAFETY: the C compiler computed the offset of a field of this type in struct rte_mbuf, and
        // the mbuf is valid for as long as it is owned.
        unsafe {
            self.0
                .as_ptr()
                .cast::<u8>()
                .add(offset as usize)
                .cast::<T>()
                .read()
        }
    }

    #[inline]
    fn set_field<T: Copy>(&mut self, offset: sys::vl_mbuf_offset, value: T) {
        // SAFETY: as in `field`; `&mut self` is the only access.
        unsafe {
            self.0
                .as_ptr()
                .cast::<u8>()
                .add(offset as usize)
                .cast::<T>()
                .write(value)
        }
    }

    #[inline]
    fn start(&self) -> *mut u8 {
        let buffer: *mut u8 = self.field(sys::VL_MBUF_BUF_ADDR);
        let offset: u16 = self.field(sys::VL_MBUF_DATA_OFF);
        // SAFETY: data_off is at most buf_len by DPDK's own invariant.
        unsafe { buffer.add(usize::from(offset)) }
    }

    /// The frame's bytes, from the destination MAC on, of the first segment.
    #[inline]
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        let length: u16 = self.field(sys::VL_MBUF_DATA_LEN);
        // SAFETY: DPDK keeps data_off + data_len within the buffer, and the driver wrote the bytes.
        unsafe { slice::from_raw_parts(self.start(), usize::from(length)) }
    }

    /// The same, to be changed.
    #[inline]
    #[must_use]
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        let length: u16 = self.field(sys::VL_MBUF_DATA_LEN);
        // SAFETY: as in `bytes`; `&mut self` is the only access.
        unsafe { slice::from_raw_parts_mut(self.start(), usize::from(length)) }
    }

    /// Asks the CPU to fetch the start of the frame.
    #[inline]
    pub fn prefetch_frame(&self) {
        voicelane_machine::prefetch(self.start());
    }

    /// Asks the CPU to fetch what DPDK keeps about the frame, in place of the frame.
    #[inline]
    pub fn prefetch_handle(&self) {
        voicelane_machine::prefetch(self.0.cast::<u8>().as_ptr());
    }

    /// Whether the frame lies in one piece. Frames that do not are not for the data plane.
    #[inline]
    #[must_use]
    pub fn is_contiguous(&self) -> bool {
        self.field::<u16>(sys::VL_MBUF_NB_SEGS) == 1
    }

    /// The TCI of a VLAN tag that the device took out of the frame, in host byte order; `None` when
    /// it took none. The frame stays without the tag.
    #[inline]
    #[must_use]
    pub fn stripped_vlan(&self) -> Option<u16> {
        let flags: u64 = self.field(sys::VL_MBUF_OL_FLAGS);
        (flags & u64::from(sys::VL_MBUF_VLAN_STRIPPED) != 0)
            .then(|| self.field(sys::VL_MBUF_VLAN_TCI))
    }

    /// Takes bytes off the frame's front; a frame that is shorter or in several pieces stays as it
    /// is, and the function returns `false`.
    #[inline]
    #[must_use]
    pub fn shrink_front(&mut self, bytes: u16) -> bool {
        let length: u16 = self.field(sys::VL_MBUF_DATA_LEN);
        let offset: u16 = self.field(sys::VL_MBUF_DATA_OFF);
        let (Some(length), Some(offset)) = (length.checked_sub(bytes), offset.checked_add(bytes))
        else {
            return false;
        };
        self.is_contiguous() && self.set_extent(offset, length)
    }

    /// Adds bytes, whatever stands there, at the frame's front; without room for them in front of
    /// it, or when it is in several pieces, it stays as it is, and the function returns `false`.
    #[inline]
    #[must_use]
    pub fn grow_front(&mut self, bytes: u16) -> bool {
        let length: u16 = self.field(sys::VL_MBUF_DATA_LEN);
        let offset: u16 = self.field(sys::VL_MBUF_DATA_OFF);
        let (Some(length), Some(offset)) = (length.checked_add(bytes), offset.checked_sub(bytes))
        else {
            return false;
        };
        self.is_contiguous() && self.set_extent(offset, length)
    }

    /// Takes bytes off the frame's end, so that so many are left; a frame that is not longer, or is in
    /// several pieces, stays as it is.
    #[inline]
    pub fn truncate(&mut self, bytes: u16) {
        let length: u16 = self.field(sys::VL_MBUF_DATA_LEN);
        if bytes < length && self.is_contiguous() {
            self.set_extent(self.field(sys::VL_MBUF_DATA_OFF), bytes);
        }
    }

    /// Says where a frame of one piece is in its buffer.
    #[inline]
    fn set_extent(&mut self, offset: u16, length: u16) -> bool {
        let buffer: u16 = self.field(sys::VL_MBUF_BUF_LEN);
        let fits = u32::from(offset) + u32::from(length) <= u32::from(buffer);
        if fits {
            self.set_field(sys::VL_MBUF_DATA_OFF, offset);
            self.set_field(sys::VL_MBUF_DATA_LEN, length);
            self.set_field(sys::VL_MBUF_PKT_LEN, u32::from(length));
        }
        fits
    }

    /// Gives buffers back to their pools, with less work for each than one by one.
    #[inline]
    pub fn free_all<const N: usize>(buffers: &mut ArrayVec<Self, N>) {
        const { assert!(N <= u32::MAX as usize) };
        let (first, count) = (buffers.as_mut_ptr(), buffers.len());
        #[allow(clippy::cast_possible_truncation, reason = "N is bounded above")]
        // SAFETY: the first `count` elements are owned mbufs, each a pointer that is not null. They are
        // forgotten before they are given back, so nobody uses them again.
        unsafe {
            buffers.set_len(0);
            sys::rte_pktmbuf_free_bulk(first.cast(), count as u32);
        }
    }

    /// Puts a frame in place of what is there.
    pub fn write(&mut self, frame: &[u8]) -> Result<(), TooLong> {
        let buffer: u16 = self.field(sys::VL_MBUF_BUF_LEN);
        let offset: u16 = self.field(sys::VL_MBUF_DATA_OFF);
        let room = usize::from(buffer.saturating_sub(offset));
        let too_long = TooLong {
            frame_bytes: frame.len(),
            buffer_bytes: room,
        };
        let length = u16::try_from(frame.len()).map_err(|_| too_long)?;
        if frame.len() > room {
            return Err(too_long);
        }
        self.set_field(sys::VL_MBUF_DATA_LEN, length);
        self.set_field(sys::VL_MBUF_PKT_LEN, u32::from(length));
        // SAFETY: data_off + length is within the buffer, as was just checked.
        unsafe {
            self.start()
                .copy_from_nonoverlapping(frame.as_ptr(), frame.len())
        };
        Ok(())
    }
}

impl Drop for Mbuf {
    #[inline]
    fn drop(&mut self) {
        // SAFETY: the mbuf is owned and is not used again.
        unsafe { sys::vl_mbuf_free(self.0.as_ptr()) }
    }
}

impl fmt::Debug for Mbuf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Mbuf")
            .field("bytes", &self.bytes().len())
            .finish()
    }
}
