//! Hostile model files, cases 1 to 65: each damages one field of the container and must give its code, never a panic.
#![allow(clippy::unwrap_used)]

mod common;

use common::hostile::{Case, T1, T2, damaged, every_case_gives_its_code, inspect, load, refuses, run};
use common::{ALIGN, ARRAY, BOOL, I32, Model, STR, T_Q4_K, U8, U32, U64, array, str_bytes};
use proptest::prelude::*;
use quipu::loader::inspect::Inspection;
use quipu::loader::{Gguf, ParseOptions};

const NAME: &str = "general.name";
const LAST: &str = "output.weight";

const CASES: &[Case] = &[
    (1, "empty file", "Truncated", |m| m.cut = Some(0)),
    (2, "three bytes", "Truncated", |m| m.cut = Some(3)),
    (3, "magic GGML", "BadMagic", |m| m.magic = b"GGML".to_vec()),
    (3, "magic ggjt", "BadMagic", |m| m.magic = b"ggjt".to_vec()),
    (4, "magic FUGG", "BadMagic", |m| m.magic = b"FUGG".to_vec()),
    (5, "version 0", "BadVersion", |m| m.version = 0),
    (6, "version 1", "UnsupportedVersion", |m| m.version = 1),
    (7, "version 4", "UnsupportedVersion", |m| m.version = 4),
    (8, "version bytes swapped", "BigEndian", |m| m.version = 3u32.swap_bytes()),
    (9, "n_tensors 2^63", "CountTooLarge", |m| m.n_tensors = Some(1 << 63)),
    (10, "n_tensors 2^64-1", "CountTooLarge", |m| m.n_tensors = Some(u64::MAX)),
    (11, "n_kv 2^61", "CountTooLarge", |m| m.n_kv = Some(1 << 61)),
    (12, "n_kv 500 000 000 in 24 bytes", "CountExceedsFile", |m| {
        (m.n_kv, m.cut) = (Some(500_000_000), Some(24))
    }),
    (13, "cut after the counts", "Truncated", |m| m.cut = Some(24)),
    (14, "a zip archive", "BadMagic", |m| {
        m.instead = Some(b"PK\x03\x04\x14\0\0\0\0\0 archive/data.pkl".to_vec())
    }),
    (14, "safetensors", "BadMagic", |m| {
        m.instead = Some(b"\x30\0\0\0\0\0\0\0{\"__metadata__\":{}}".to_vec())
    }),
    (14, "an HTML page", "BadMagic", |m| m.instead = Some(b"<!doctype html><title>404</title>".to_vec())),
    (15, "key length 2^64-1", "LengthExceedsFile", |m| m.key(NAME).key_len = Some(u64::MAX)),
    (16, "key one byte longer than the file", "LengthExceedsFile", |m| {
        let here = m.header().0.len() as u64;
        // A last entry whose key takes what is left, and one byte more.
        m.add(b"", U8, vec![0]);
        m.tensors.clear();
        let left = m.build().len() as u64
            - Model { kv: m.kv[..m.kv.len() - 1].to_vec(), ..m.clone() }.header().0.len() as u64;
        assert!(left < here);
        m.kv.last_mut().unwrap().key_len = Some(left - 8 + 1);
    }),
    (17, "empty key", "EmptyKey", |m| m.key(NAME).key.clear()),
    (18, "key of 65 537 bytes", "KeyTooLong", |m| m.key(NAME).key = vec![b'k'; 65537]),
    (19, "key with invalid UTF-8", "KeyNotUtf8", |m| m.key(NAME).key = b"general.\xff".to_vec()),
    (20, "key with NUL", "BadKeyChar", |m| m.key(NAME).key = b"general.\0name".to_vec()),
    (20, "key with a newline", "BadKeyChar", |m| m.key(NAME).key = b"general.\nname".to_vec()),
    (20, "key with ESC", "BadKeyChar", |m| m.key(NAME).key = b"general.\x1b[2Jname".to_vec()),
    (21, "the same key twice", "DuplicateKey", |m| m.add(NAME.as_bytes(), STR, str_bytes(b"again"))),
    (22, "value type 13", "BadValueType", |m| m.key(NAME).ty = 13),
    (23, "value type 2^32-1", "BadValueType", |m| m.key(NAME).ty = u32::MAX),
    (24, "string length 2^40", "LengthExceedsFile", |m| {
        m.key(NAME).value = (1u64 << 40).to_le_bytes().to_vec()
    }),
    (25, "string length that wraps", "LengthExceedsFile", |m| {
        m.key(NAME).value = (u64::MAX - 64).to_le_bytes().to_vec()
    }),
    (26, "bool of 7", "BadBool", |m| m.add(b"x.flag", BOOL, vec![7])),
    (26, "bool of 7 in an array", "BadBool", |m| m.add(b"x.flags", ARRAY, array(BOOL, 3, &[0, 1, 7]))),
    (27, "array of arrays", "NestedArray", |m| m.add(b"x.a", ARRAY, array(ARRAY, 1, &array(U8, 1, &[0])))),
    (28, "array nested 100 000 levels", "NestedArray", |m| {
        m.add(b"x.a", ARRAY, array(ARRAY, 1, &[]).repeat(100_000))
    }),
    (29, "u8 array of 2^62", "CountExceedsFile", |m| m.add(b"x.a", ARRAY, array(U8, 1 << 62, &[]))),
    (30, "u64 array of 2^61", "CountExceedsFile", |m| m.add(b"x.a", ARRAY, array(U64, 1 << 61, &[]))),
    (31, "string array of 2^33", "CountExceedsFile", |m| m.add(b"x.a", ARRAY, array(STR, 1 << 33, &[]))),
    (32, "last string of an array overruns", "Truncated", |m| {
        let mut strings = str_bytes(b"ok");
        strings.extend((1u64 << 20).to_le_bytes());
        m.add(b"x.a", ARRAY, array(STR, 2, &strings));
    }),
    (33, "alignment 0", "BadAlignment", |m| m.set_u32("general.alignment", 0)),
    (34, "alignment 3", "BadAlignment", |m| m.set_u32("general.alignment", 3)),
    (35, "alignment 2^31", "BadAlignment", |m| m.set_u32("general.alignment", 1 << 31)),
    (36, "alignment as u64", "WrongType", |m| {
        (m.key("general.alignment").ty, m.key("general.alignment").value) =
            (U64, 32u64.to_le_bytes().to_vec());
    }),
    (36, "alignment as i32", "WrongType", |m| m.key("general.alignment").ty = I32),
    (37, "no architecture", "MissingKey", |m| {
        m.key("general.architecture").key = b"general.architectura".to_vec()
    }),
    (38, "architecture ../../x", "UnsupportedArch", |m| {
        m.key("general.architecture").value = str_bytes(b"../../x")
    }),
    (38, "unknown architecture", "UnsupportedArch", |m| {
        m.key("general.architecture").value = str_bytes(b"\x1b]0;x\x07")
    }),
    (39, "architecture as u32", "WrongType", |m| {
        (m.key("general.architecture").ty, m.key("general.architecture").value) = (U32, vec![1, 0, 0, 0]);
    }),
    (40, "name length 2^64-1", "LengthExceedsFile", |m| m.tensor(T1).name_len = Some(u64::MAX)),
    (41, "name of 64 bytes", "NameTooLong", |m| m.tensor(T1).name = vec![b'n'; 64]),
    (42, "empty name", "EmptyName", |m| m.tensor(T1).name.clear()),
    (43, "duplicate name", "DuplicateTensor", |m| m.tensor("blk.1.attn_norm.weight").name = T2.into()),
    (44, "no dimensions", "BadRank", |m| m.tensor(T1).n_dims = Some(0)),
    (45, "5 dimensions", "BadRank", |m| m.tensor(T1).n_dims = Some(5)),
    (46, "2^32-1 dimensions", "BadRank", |m| m.tensor(T1).n_dims = Some(u32::MAX)),
    (47, "dimension 0 is 0", "ZeroDim", |m| m.tensor(T1).dims[0] = 0),
    (48, "dimension 1 is 0", "ZeroDim", |m| m.tensor(T1).dims[1] = 0),
    (49, "dimension of 2^63", "DimTooLarge", |m| m.tensor(T1).dims[0] = 1 << 63),
    (50, "2^32 x 2^32", "ElementOverflow", |m| m.tensor(T1).dims = vec![1 << 32, 1 << 32]),
    (51, "2^40 x 2^40 x 1 x 1", "ElementOverflow", |m| m.tensor(T1).dims = vec![1 << 40, 1 << 40, 1, 1]),
    (52, "F32 whose padding wraps", "SizeOverflow", |m| {
        m.tensor(T2).dims = vec![4, (1 << 30) - 1, (1 << 30) + 1]
    }),
    (53, "token_embd of 2^42+1 rows", "OutOfFile", |m| m.tensor(T1).dims[1] = (1 << 42) + 1),
    (54, "type -1", "BadTensorType", |m| m.tensor(T1).ty = u32::MAX),
    (55, "removed type 4", "BadTensorType", |m| m.tensor(T1).ty = 4),
    (55, "removed type 5", "BadTensorType", |m| m.tensor(T1).ty = 5),
    (55, "removed type 31", "BadTensorType", |m| m.tensor(T1).ty = 31),
    (55, "removed type 32", "BadTensorType", |m| m.tensor(T1).ty = 32),
    (55, "removed type 33", "BadTensorType", |m| m.tensor(T1).ty = 33),
    (55, "removed type 36", "BadTensorType", |m| m.tensor(T1).ty = 36),
    (55, "removed type 37", "BadTensorType", |m| m.tensor(T1).ty = 37),
    (55, "removed type 38", "BadTensorType", |m| m.tensor(T1).ty = 38),
    (56, "type 10 000", "BadTensorType", |m| m.tensor(T1).ty = 10_000),
    (57, "Q4_K rows of 100", "NotBlockMultiple", |m| (m.tensor(T1).ty, m.tensor(T1).dims[0]) = (T_Q4_K, 100)),
    (58, "offset 1", "MisalignedOffset", |m| m.tensor(T1).offset = Some(1)),
    (59, "two tensors at one offset", "Overlap", |m| m.tensor(T2).offset = Some(0)),
    (60, "a tensor inside another", "Overlap", |m| m.tensor(T2).offset = Some(ALIGN as u64)),
    (61, "offset 2^64-32", "OutOfFile", |m| m.tensor(T2).offset = Some(u64::MAX - 31)),
    (62, "one byte missing at the end", "OutOfFile", |m| {
        // Padding behind the last tensor may be missing; its last byte may not.
        let n = m.tensor(LAST).data.len();
        m.drop_tail = n.next_multiple_of(ALIGN) - n + 1;
    }),
    (63, "cut inside the padding before the data", "OutOfFile", |m| {
        // One byte past the table; the base's table does not end on a multiple of the alignment.
        let (table, padded) = m.header();
        assert!(table.len() + 1 < padded);
        m.cut = Some(table.len() + 1);
    }),
    (64, "a hole of 64 KiB", "UnexpectedGap", |m| m.hole = (1, 64 << 10)),
    (65, "sizes that add up past u64", "SizeOverflow", |m| {
        for t in [T1, T2, LAST] {
            (m.tensor(t).ty, m.tensor(t).dims) = (0, vec![1 << 60, 1, 1]);
        }
        // Each is below 2^63 bytes; five of them are not below 2^64.
        for t in ["blk.0.ffn_up.weight", "blk.1.ffn_up.weight"] {
            (m.tensor(t).ty, m.tensor(t).dims) = (0, vec![1 << 60]);
        }
    }),
];

#[test]
fn every_case_gives_its_code_and_offset() {
    every_case_gives_its_code(CASES, load);
    assert!((1..=65).all(|n| CASES.iter().any(|c| c.0 == n)), "a case is missing");
}

#[test]
fn errors_say_what_and_where() {
    let line = |number: u32| {
        let case = CASES.iter().find(|c| c.0 == number).unwrap();
        load(&damaged(case)).unwrap_err().problems()[0].to_string()
    };
    assert!(line(1).contains("at byte 0"), "{}", line(1));
    assert!(line(3).contains("legacy"), "{}", line(3));
    assert!(line(32).contains("key x.a, element 1"), "{}", line(32));
    assert!(line(38).contains("\"../../x\""), "{}", line(38));
    assert!(line(59).contains("behind tensor token_embd.weight"), "{}", line(59));
    assert!(line(62).contains("incomplete"), "{}", line(62));
}

#[test]
fn every_prefix_of_the_header_is_an_error() {
    let whole = Model::base().build();
    let (table, padded) = Model::base().header();
    let header = ParseOptions { header_only: true, ..ParseOptions::default() };
    for n in 0..=padded {
        assert!(load(&whole[..n]).is_err(), "{n} bytes");
        let ok = Gguf::parse(whole[..n].into(), &header).is_ok();
        assert_eq!(ok, n >= table.len(), "{n} bytes, header only");
    }
}

#[test]
fn every_bit_flip_of_the_header_loads_or_errs() {
    let mut bytes = Model::base().build();
    let (table, _) = Model::base().header();
    let mut errors = 0;
    for i in 0..table.len() {
        for bit in 0..8 {
            bytes[i] ^= 1 << bit;
            errors += usize::from(load(&bytes).is_err());
            bytes[i] ^= 1 << bit;
        }
    }
    assert!(errors > table.len(), "{errors} of {} flips were noticed", table.len() * 8);
    assert!(load(&bytes).is_ok());
}

#[test]
fn extreme_numbers_anywhere_load_or_err() {
    let bytes = Model::base().build();
    let (table, _) = Model::base().header();
    // The middle of the three token arrays is left out: the same bytes again and again, and most of the table.
    let find = |what: &str| table.windows(what.len()).position(|w| w == what.as_bytes()).unwrap();
    let arrays =
        ["tokens", "scores", "token_type", "bos_token_id"].map(|k| find(&format!("tokenizer.ggml.{k}")));
    let inside = |at: usize| arrays.windows(2).any(|w| (w[0] + 128..w[1] - 32).contains(&at));
    let mut errors = 0;
    for at in (0..table.len() - 8).filter(|at| !inside(*at)) {
        for value in [0u64, 1, 1 << 31, u64::from(u32::MAX), 1 << 63, u64::MAX] {
            let mut damaged = bytes.clone();
            damaged[at..at + 8].copy_from_slice(&value.to_le_bytes());
            errors += usize::from(load(&damaged).is_err());
            damaged[at..at + 8].copy_from_slice(&bytes[at..at + 8]);
            damaged[at..at + 4].copy_from_slice(&(value as u32).to_le_bytes());
            errors += usize::from(load(&damaged).is_err());
        }
    }
    assert!(errors > table.len());
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    /// Several damages at once: bytes replaced, removed and inserted, the end cut off.
    #[test]
    fn damage_upon_damage_loads_or_errs(
        edits in prop::collection::vec((0.0..1.0f64, 0u8..3, prop::collection::vec(any::<u8>(), 1..9)), 1..9),
        keep in 0.0..1.2f64,
    ) {
        let mut bytes = Model::base().build();
        let table = Model::base().header().0.len();
        for (place, kind, with) in edits {
            let at = (place * table as f64) as usize;
            match kind {
                0 => bytes[at..at + with.len()].copy_from_slice(&with),
                1 => drop(bytes.drain(at..at + with.len())),
                _ => drop(bytes.splice(at..at, with)),
            }
        }
        bytes.truncate((keep * bytes.len() as f64) as usize);
        let header_only = ParseOptions { header_only: true, ..ParseOptions::default() };
        for options in [ParseOptions::default(), header_only] {
            let (g, problems) = Gguf::parse_partly(bytes.as_slice().into(), &options);
            // Whatever was read can be looked at.
            let seen = Inspection::new(&g, problems, true).to_string();
            prop_assert!(seen.contains("runnable"));
            prop_assert!(g.entries().all(|(key, value)| g.get(key).is_some() && !value.to_string().is_empty()));
            prop_assert!(g.tensors().iter().all(|t| g.data(t).is_none_or(|d| d.len() as u64 == t.bytes)));
        }
        let _ = load(&bytes);
    }
}

#[test]
fn commands_refuse_every_case() {
    refuses(CASES, &[inspect, run]);
}
