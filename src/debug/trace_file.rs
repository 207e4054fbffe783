//! Trace files: named f32 arrays in the safetensors format.
//!
//! The order of tensors is the order of execution, and the same trace gives the same bytes. (The library for this
//! format keeps metadata in a hash map, whose order changes from run to run; the format itself is one JSON object
//! behind its length, then the data, so it is written here. Tests read it back with the library.)

use crate::error::{Error, Problem, Result};
use serde_json::json;
use std::collections::{BTreeMap, HashMap};
use std::io::{self, BufWriter, Write};
use std::path::Path;

/// One array.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Tensor {
    /// Name, unique in the file.
    pub name: String,
    /// Dimensions, slowest first; their product is the number of elements.
    pub shape: Vec<usize>,
    /// Elements.
    pub data: Vec<f32>,
}

/// A trace file in memory.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct TraceFile {
    /// In the order of execution, if the metadata says so, else in the order of the file.
    pub tensors: Vec<Tensor>,
    /// What the file says about itself.
    pub metadata: BTreeMap<String, String>,
}

impl TraceFile {
    /// Writes the file; `order`, the list of names, is added to the metadata.
    ///
    /// Errors: `OutputNotWritable` (runtime).
    pub fn write(&self, path: &Path) -> Result<()> {
        let write = || {
            let mut out = BufWriter::new(std::fs::File::create(path)?);
            self.write_to(&mut out)?;
            out.flush()
        };
        write().map_err(|e: io::Error| {
            let thing = crate::error::escape(&path.to_string_lossy());
            Error::runtime(Problem::new("OutputNotWritable", thing).found(e.to_string()))
        })
    }

    fn write_to(&self, out: &mut impl Write) -> io::Result<()> {
        let mut metadata = self.metadata.clone();
        let names: Vec<&str> = self.tensors.iter().map(|t| t.name.as_str()).collect();
        metadata.insert("order".into(), json!(names).to_string());
        let mut header = format!("{{\"__metadata__\":{}", json!(metadata));
        let mut offset = 0;
        for t in &self.tensors {
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
        for t in &self.tensors {
            if cfg!(target_endian = "little") {
                out.write_all(bytemuck::cast_slice(&t.data))?;
            } else {
                for x in &t.data {
                    out.write_all(&x.to_le_bytes())?;
                }
            }
        }
        Ok(())
    }

    /// The tensor with this name.
    pub fn find(&self, name: &str) -> Option<&Tensor> {
        self.tensors.iter().find(|t| t.name == name)
    }

    /// Reads a safetensors file of f32 tensors; others are left out.
    ///
    /// Errors: `Io` (usage) if it cannot be read, `BadTrace` (input) if it is no such file.
    pub fn read(path: &Path) -> Result<TraceFile> {
        let name = crate::error::escape(&path.to_string_lossy());
        let bytes = std::fs::read(path)
            .map_err(|e| Error::usage(Problem::new("Io", name.clone()).found(e.to_string())))?;
        TraceFile::from_bytes(&bytes).map_err(|why| {
            let p = Problem::new("BadTrace", name).found(crate::error::escape(&why));
            Error::input(p.expected("a safetensors file, as quipu trace writes it"))
        })
    }

    fn from_bytes(bytes: &[u8]) -> Result<TraceFile, String> {
        let file = safetensors::SafeTensors::deserialize(bytes).map_err(|e| e.to_string())?;
        let (_, head) = safetensors::SafeTensors::read_metadata(bytes).map_err(|e| e.to_string())?;
        let metadata: BTreeMap<String, String> = head.metadata().clone().into_iter().flatten().collect();
        let order: Vec<String> =
            metadata.get("order").and_then(|json| serde_json::from_str(json).ok()).unwrap_or_default();
        let place: HashMap<&str, usize> = order.iter().enumerate().map(|(i, n)| (n.as_str(), i)).collect();
        let mut tensors: Vec<Tensor> = file
            .iter()
            .filter(|(_, t)| t.dtype() == safetensors::Dtype::F32)
            .map(|(name, t)| Tensor {
                name: name.to_string(),
                shape: t.shape().to_vec(),
                data: t.data().as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b)).collect(),
            })
            .collect();
        tensors.sort_by_key(|t| place.get(t.name.as_str()).copied().unwrap_or(usize::MAX));
        Ok(TraceFile { tensors, metadata })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_library_reads_what_is_written() {
        let tensor = |name: &str, shape: &[usize], data: &[f32]| Tensor {
            name: name.into(),
            shape: shape.into(),
            data: data.into(),
        };
        let trace = TraceFile {
            tensors: vec![
                tensor("l_out-0", &[2, 3], &[1.0, -2.5, f32::MIN_POSITIVE, 4.0, 5.0, 6.0]),
                tensor("a \"quoted\" name", &[1], &[f32::NEG_INFINITY]),
            ],
            metadata: BTreeMap::from([("tokens".to_string(), "[1,2]".to_string())]),
        };
        let mut bytes = Vec::new();
        trace.write_to(&mut bytes).unwrap();
        let file = safetensors::SafeTensors::deserialize(&bytes).unwrap();
        assert_eq!(file.len(), 2);
        let ours = TraceFile::from_bytes(&bytes).unwrap();
        assert_eq!(ours.metadata["tokens"], "[1,2]");
        assert_eq!(ours.tensors, trace.tensors);
        for cut in 0..bytes.len() {
            assert!(TraceFile::from_bytes(&bytes[..cut]).is_err(), "{cut}");
        }
        for t in &trace.tensors {
            let read = file.tensor(&t.name).unwrap();
            assert_eq!((read.dtype(), read.shape()), (safetensors::Dtype::F32, &t.shape[..]));
            let want: Vec<u8> = t.data.iter().flat_map(|x| x.to_le_bytes()).collect();
            assert_eq!(read.data(), want);
        }
        let (_, header) = safetensors::SafeTensors::read_metadata(&bytes).unwrap();
        let read = header.metadata().clone().unwrap();
        assert_eq!(read["tokens"], "[1,2]");
        assert_eq!(read["order"], r#"["l_out-0","a \"quoted\" name"]"#);
        let mut again = Vec::new();
        trace.write_to(&mut again).unwrap();
        assert_eq!(bytes, again);
    }
}
