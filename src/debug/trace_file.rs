//! Trace files: named f32 arrays in the safetensors format.
//!
//! The order of tensors is the order of execution, and the same trace gives the same bytes. (The library for this
//! format keeps metadata in a hash map, whose order changes from run to run; the format itself is one JSON object
//! behind its length, then the data, so it is written here. Tests read it back with the library.)

use crate::error::{Error, Problem, Result};
use serde_json::json;
use std::collections::BTreeMap;
use std::io::{self, BufWriter, Write};
use std::path::Path;

/// One array, slowest dimension first.
#[derive(Clone, Copy, Debug)]
pub struct Tensor<'a> {
    /// Name, unique in the file.
    pub name: &'a str,
    /// Dimensions; their product is the number of elements.
    pub shape: &'a [usize],
    /// Elements.
    pub data: &'a [f32],
}

/// Writes tensors and metadata; `order`, the list of names, is added to the metadata.
///
/// Errors: `OutputNotWritable` (runtime).
pub fn write(path: &Path, tensors: &[Tensor<'_>], metadata: &BTreeMap<String, String>) -> Result<()> {
    let write = || {
        let mut out = BufWriter::new(std::fs::File::create(path)?);
        write_to(&mut out, tensors, metadata)?;
        out.flush()
    };
    write().map_err(|e: io::Error| {
        let thing = crate::error::escape(&path.to_string_lossy());
        Error::runtime(Problem::new("OutputNotWritable", thing).found(e.to_string()))
    })
}

fn write_to(
    out: &mut impl Write,
    tensors: &[Tensor<'_>],
    metadata: &BTreeMap<String, String>,
) -> io::Result<()> {
    let mut metadata = metadata.clone();
    let names: Vec<&str> = tensors.iter().map(|t| t.name).collect();
    metadata.insert("order".into(), json!(names).to_string());
    let mut header = format!("{{\"__metadata__\":{}", json!(metadata));
    let mut offset = 0;
    for t in tensors {
        let end = offset + 4 * t.data.len();
        let entry = json!({ "dtype": "F32", "shape": t.shape, "data_offsets": [offset, end] });
        header += &format!(",{}:{entry}", json!(t.name));
        offset = end;
    }
    header.push('}');
    // Data begins at a multiple of eight bytes.
    header.extend(std::iter::repeat_n(' ', header.len().next_multiple_of(8) - header.len()));
    out.write_all(&(header.len() as u64).to_le_bytes())?;
    out.write_all(header.as_bytes())?;
    for t in tensors {
        if cfg!(target_endian = "little") {
            out.write_all(bytemuck::cast_slice(t.data))?;
        } else {
            for x in t.data {
                out.write_all(&x.to_le_bytes())?;
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_library_reads_what_is_written() {
        let tensors = [
            Tensor { name: "l_out-0", shape: &[2, 3], data: &[1.0, -2.5, f32::MIN_POSITIVE, 4.0, 5.0, 6.0] },
            Tensor { name: "a \"quoted\" name", shape: &[1], data: &[f32::NEG_INFINITY] },
        ];
        let meta = BTreeMap::from([("tokens".to_string(), "[1,2]".to_string())]);
        let mut bytes = Vec::new();
        write_to(&mut bytes, &tensors, &meta).unwrap();
        let file = safetensors::SafeTensors::deserialize(&bytes).unwrap();
        assert_eq!(file.len(), 2);
        for t in &tensors {
            let read = file.tensor(t.name).unwrap();
            assert_eq!((read.dtype(), read.shape()), (safetensors::Dtype::F32, t.shape));
            let want: Vec<u8> = t.data.iter().flat_map(|x| x.to_le_bytes()).collect();
            assert_eq!(read.data(), want);
        }
        let (_, header) = safetensors::SafeTensors::read_metadata(&bytes).unwrap();
        let read = header.metadata().clone().unwrap();
        assert_eq!(read["tokens"], "[1,2]");
        assert_eq!(read["order"], r#"["l_out-0","a \"quoted\" name"]"#);
        let mut again = Vec::new();
        write_to(&mut again, &tensors, &meta).unwrap();
        assert_eq!(bytes, again);
    }
}
