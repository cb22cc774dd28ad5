//! Gives memory back to the system after a load: what the allocator of glibc keeps for the next one, and the pages
//! of the program that nothing has needed since.
//!
//! A crate of its own, so that the server itself can go on forbidding `unsafe`: there is no safe way to ask the
//! C library for this.

/// Gives back what is free on the heap. Takes some milliseconds for a heap of 100 MiB, in which other threads may
/// wait for memory: call it when there is little to do. Does nothing where the C library is not glibc.
pub fn give_back() {
    #[cfg(target_env = "gnu")]
    #[expect(unsafe_code, reason = "a function of C")]
    // SAFETY: malloc_trim(3) may be called at any time and from any thread; it takes no pointer, and frees
    // nothing that is in use.
    unsafe {
        libc::malloc_trim(0);
    }
}

/// Takes the program's own code out of what this process has resident. What is used again comes back from the
/// system's page cache, 64 KiB at a time and in a microsecond each; the rest, as what only the start needed, stays
/// away. Does nothing where `/proc` does not say where the code is.
pub fn unmap_code() {
    #[cfg(target_os = "linux")]
    for (start, length) in code() {
        #[expect(unsafe_code, reason = "a function of C")]
        // SAFETY: madvise(2) with MADV_DONTNEED has the next access to a private mapping of a file read the file
        // again. These pages are executable and not writable: nothing has changed them, relocations concern data.
        unsafe {
            libc::madvise(start as *mut libc::c_void, length, libc::MADV_DONTNEED);
        }
    }
}

/// Where the executable pages of this program's file are: start and length in bytes.
#[cfg(target_os = "linux")]
fn code() -> Vec<(usize, usize)> {
    let (Ok(maps), Ok(program)) =
        (std::fs::read_to_string("/proc/self/maps"), std::fs::read_link("/proc/self/exe"))
    else {
        return Vec::new();
    };
    let is_code = |line: &&str| {
        line.split_ascii_whitespace().nth(1) == Some("r-xp")
            && program.to_str().is_some_and(|program| line.ends_with(program))
    };
    let range = |line: &str| {
        let (start, end) = line.split_ascii_whitespace().next()?.split_once('-')?;
        let [start, end] = [start, end].map(|text| usize::from_str_radix(text, 16));
        let start = start.ok()?;
        Some((start, end.ok()?.checked_sub(start)?))
    };
    maps.lines().filter(is_code).filter_map(range).collect()
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    /// How many KiB of the code are resident.
    fn resident() -> usize {
        let smaps = std::fs::read_to_string("/proc/self/smaps").unwrap();
        let start = format!("{:x}-", code()[0].0);
        let mut lines = smaps.lines().skip_while(|line| !line.starts_with(&start));
        let resident = lines.find_map(|line| line.strip_prefix("Rss:")).unwrap();
        resident.trim().trim_end_matches(" kB").parse().unwrap()
    }

    #[test]
    fn code_that_is_not_used_is_not_resident_and_what_is_used_comes_back() {
        assert_eq!(code().len(), 1);
        // Has all of it read.
        let (start, length) = code()[0];
        let mut memory = std::fs::File::open("/proc/self/mem").unwrap();
        std::io::Seek::seek(&mut memory, std::io::SeekFrom::Start(start as u64)).unwrap();
        let mut bytes = vec![0; length];
        std::io::Read::read_exact(&mut memory, &mut bytes).unwrap();
        let before = resident();
        unmap_code();
        let after = resident();
        assert!(after < before, "{before} KiB before, {after} after");
        let again: u64 = bytes.iter().map(|byte| u64::from(*byte)).sum();
        assert!(again > 0, "the program goes on");
    }
}
