// SPDX-License-Identifier: Apache-2.0
//! Checked access to the linear memory of a guest. Every pointer and length comes from the guest and is trusted in nothing.

use super::Status;

/// Start and end of `len` bytes at `ptr`, if they lie inside a memory of `size` bytes.
fn range(size: usize, ptr: u32, len: u32) -> Result<std::ops::Range<usize>, Status> {
    let start = ptr as usize;
    let end = start + len as usize; // two 32 bit numbers cannot overflow 64 bits
    if end <= size {
        Ok(start..end)
    } else {
        Err(Status::InvalidMemoryAccess)
    }
}

/// Bytes of the guest. A length of 0 is good at any address.
pub fn read(memory: &[u8], ptr: u32, len: u32) -> Result<&[u8], Status> {
    if len == 0 {
        return Ok(&[]);
    }
    Ok(&memory[range(memory.len(), ptr, len)?])
}

/// Bytes of the guest, to write.
pub fn write(memory: &mut [u8], ptr: u32, len: u32) -> Result<&mut [u8], Status> {
    if len == 0 {
        return Ok(&mut []);
    }
    let range = range(memory.len(), ptr, len)?;
    Ok(&mut memory[range])
}

/// Writes a little endian word.
pub fn write_u32(memory: &mut [u8], ptr: u32, value: u32) -> Result<(), Status> {
    write(memory, ptr, 4)?.copy_from_slice(&value.to_le_bytes());
    Ok(())
}

/// Writes a little endian double word.
pub fn write_u64(memory: &mut [u8], ptr: u32, value: u64) -> Result<(), Status> {
    write(memory, ptr, 8)?.copy_from_slice(&value.to_le_bytes());
    Ok(())
}

/// Reads a little endian word.
pub fn read_u32(memory: &[u8], ptr: u32) -> Result<u32, Status> {
    let mut word = [0; 4];
    word.copy_from_slice(read(memory, ptr, 4)?);
    Ok(u32::from_le_bytes(word))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn inside_is_ok_and_outside_is_invalid() {
        let mut memory = [0u8; 16];
        assert_eq!(write_u32(&mut memory, 12, 7), Ok(()));
        assert_eq!(read_u32(&memory, 12), Ok(7));
        assert_eq!(write_u32(&mut memory, 13, 7), Err(Status::InvalidMemoryAccess));
        assert_eq!(write_u64(&mut memory, u32::MAX, 7), Err(Status::InvalidMemoryAccess));
        assert_eq!(read(&memory, 4, u32::MAX), Err(Status::InvalidMemoryAccess));
    }

    #[test]
    fn nothing_is_readable_anywhere() {
        assert_eq!(read(&[], u32::MAX, 0), Ok(&[][..]));
    }
}
