//! The Argon2id computation itself, on memory that is taken once and reused.
//!
//! `argon2-rust` chooses AVX-512, AVX2, SSE2 or NEON at run time and is more than twice as fast as
//! the usual `argon2` crate, but young. So it is checked against `argon2` at every start, and the
//! usual crate takes over when the two disagree.

use std::fmt;

use super::format::Argon2Params;

/// Which implementation computes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Backend {
    /// `argon2-rust`, with SIMD.
    Simd,
    /// `argon2` of `RustCrypto`.
    Portable,
}

impl fmt::Display for Backend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Simd => "argon2-rust",
            Self::Portable => "argon2",
        })
    }
}

/// The computation failed: parameters out of range, or no memory.
#[derive(Debug, thiserror::Error)]
#[error("the hash could not be computed: {0}")]
pub(super) struct CoreError(String);

impl CoreError {
    pub(super) fn new(cause: impl fmt::Display) -> Self {
        Self(cause.to_string())
    }
}

impl Backend {
    /// The SIMD implementation if it agrees with the portable one on a set of small inputs.
    pub fn choose() -> Self {
        let mut core = Core::new(Self::Simd);
        let judge = |index: u8| -> Result<bool, CoreError> {
            let params = Argon2Params {
                memory_kib: 64 + 64 * u32::from(index),
                passes: 1 + u32::from(index % 3),
                lanes: 1,
            };
            let password = vec![index; usize::from(index) * 7];
            let (mut fast, mut sure) = ([0; 32], [0; 32]);
            core.hash(params, &password, &[index; 16], &mut fast)?;
            let argon2id = argon2::Algorithm::Argon2id;
            portable(argon2id, params, &password, &[index; 16], &mut sure)?;
            Ok(fast == sure)
        };
        let agrees = (1..=4).map(judge).all(|verdict| matches!(verdict, Ok(true)));
        if agrees { Self::Simd } else { Self::Portable }
    }
}

/// One thread's worth of Argon2, with its memory.
pub(super) struct Core {
    backend: Backend,
    simd: Option<argon2_rust::Hasher>,
    /// Whether it has hashed since it last rested.
    worked: bool,
}

impl Core {
    pub(super) fn new(backend: Backend) -> Self {
        Self { backend, simd: None, worked: false }
    }

    /// Gives the memory back to the system, which zeroes it before anybody else has it; the next hash
    /// takes it again. So goes what a load of logins has left on the heap, and code that only it needed.
    pub(super) fn rest(&mut self) {
        self.simd = None;
        if std::mem::take(&mut self.worked) {
            passmint_memory::give_back();
            passmint_memory::unmap_code();
        }
    }

    /// Computes a tag into `out`.
    pub(super) fn hash(
        &mut self,
        params: Argon2Params,
        password: &[u8],
        salt: &[u8],
        out: &mut [u8],
    ) -> Result<(), CoreError> {
        self.worked = true;
        if self.backend == Backend::Portable {
            return portable(argon2::Algorithm::Argon2id, params, password, salt, out);
        }
        let fail = |error: argon2_rust::Error| CoreError(error.to_string());
        let argon2 = argon2_rust::Argon2::new(
            argon2_rust::Algorithm::Argon2id,
            argon2_rust::Version::V0x13,
            argon2_rust::Params::builder()
                .memory(argon2_rust::params::Memory::kib(params.memory_kib.into()))
                .passes(params.passes)
                .lanes(params.lanes)
                .tag_len(argon2_rust::params::TagLen::bytes(out.len() as u64))
                .build()
                .map_err(fail)?,
        );
        let hasher = match &mut self.simd {
            Some(hasher) => {
                hasher.set_argon2(argon2);
                hasher
            }
            none => none.insert(argon2.hasher()),
        };
        hasher.hash_into(password, salt, out).map_err(fail)
    }
}

/// Argon2i, which only hashes from elsewhere use.
pub(super) fn portable_argon2i(
    params: Argon2Params,
    password: &[u8],
    salt: &[u8],
    out: &mut [u8],
) -> Result<(), CoreError> {
    portable(argon2::Algorithm::Argon2i, params, password, salt, out)
}

fn portable(
    algorithm: argon2::Algorithm,
    params: Argon2Params,
    password: &[u8],
    salt: &[u8],
    out: &mut [u8],
) -> Result<(), CoreError> {
    let fail = |error: argon2::Error| CoreError(error.to_string());
    let argon2_params =
        argon2::Params::new(params.memory_kib, params.passes, params.lanes, Some(out.len()))
            .map_err(fail)?;
    argon2::Argon2::new(algorithm, argon2::Version::V0x13, argon2_params)
        .hash_password_into(password, salt, out)
        .map_err(fail)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::random;

    #[test]
    fn the_simd_core_is_chosen_on_a_sound_machine() {
        assert_eq!(Backend::choose(), Backend::Simd);
    }

    #[test]
    fn both_cores_agree_on_random_inputs() {
        let mut core = Core::new(Backend::Simd);
        for _ in 0..200 {
            let seed = random::bytes::<64>().unwrap();
            let params = Argon2Params {
                memory_kib: 32 + u32::from(seed[0]) * 4,
                passes: 1 + u32::from(seed[1] % 4),
                lanes: 1 + u32::from(seed[2] % 4),
            };
            let (mut fast, mut sure) = (vec![0; 16 + usize::from(seed[3] % 48)], Vec::new());
            sure.resize(fast.len(), 0);
            let password = &seed[4..4 + usize::from(seed[4] % 44)];
            core.hash(params, password, &seed[48..], &mut fast).unwrap();
            let argon2id = argon2::Algorithm::Argon2id;
            portable(argon2id, params, password, &seed[48..], &mut sure).unwrap();
            assert_eq!(fast, sure, "{params:?}");
        }
    }

    #[test]
    fn the_known_answer_of_the_reference_implementation() {
        // phc-winner-argon2 src/test.c, Argon2id, version 0x13: m = 256 KiB, t = 2, p = 1.
        let params = Argon2Params { memory_kib: 256, passes: 2, lanes: 1 };
        let expected = "9dfeb910e80bad0311fee20f9c0e2b12c17987b4cac90c2ef54d5b3021c68bfe";
        for backend in [Backend::Simd, Backend::Portable] {
            let mut tag = [0; 32];
            Core::new(backend).hash(params, b"password", b"somesalt", &mut tag).unwrap();
            assert_eq!(data_encoding::HEXLOWER.encode(&tag), expected, "{backend}");
        }
    }
}
