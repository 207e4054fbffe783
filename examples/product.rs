//! Matrix products with the weights of a file, by the kernels of one instruction set.
//!
//! `product MODEL.gguf IN.safetensors OUT.safetensors [--isa scalar|avx2|avx512]`: every tensor of IN is named as a
//! weight and holds its f32 inputs, one row each; OUT gets a tensor of the same name with the outputs.
//! `tools/reference/products.py` lays them beside llama.cpp's.

use quipu::backends::Isa;
use quipu::backends::cpu::product::matmul;
use quipu::loader::{Gguf, LoadMode, ParseOptions};
use safetensors::tensor::{Dtype, SafeTensors, TensorView, serialize_to_file};
use std::error::Error;
use std::path::Path;

fn main() -> Result<(), Box<dyn Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let (model, source, target, isa) = match args.as_slice() {
        [model, source, target] => (model, source, target, Isa::best()),
        [model, source, target, flag, isa] if flag == "--isa" => (model, source, target, isa.parse()?),
        _ => return Err("usage: product MODEL.gguf IN.safetensors OUT.safetensors [--isa ISA]".into()),
    };
    let isa = isa.require()?;
    let gguf = Gguf::open(Path::new(model), LoadMode::Auto, &ParseOptions::default())?;
    let file = std::fs::read(source)?;
    let mut results: Vec<(String, Vec<usize>, Vec<u8>)> = Vec::new();
    for (weight, input) in SafeTensors::deserialize(&file)?.iter() {
        if input.dtype() != Dtype::F32 {
            return Err(format!("{weight}: inputs are rows of f32").into());
        }
        let x: Vec<f32> = input.data().as_chunks().0.iter().map(|b| f32::from_le_bytes(*b)).collect();
        let (rows, y) = outputs(&gguf, weight, &x, isa)?;
        let bytes = y.iter().flat_map(|v| v.to_le_bytes()).collect();
        results.push((weight.to_string(), vec![y.len() / rows, rows], bytes));
    }
    let views = results
        .iter()
        .map(|(name, shape, bytes)| Ok((name, TensorView::new(Dtype::F32, shape.clone(), bytes)?)))
        .collect::<Result<Vec<_>, safetensors::SafeTensorError>>()?;
    serialize_to_file(views, None, Path::new(target))?;
    Ok(())
}

/// Rows of the weight, and the products with it.
fn outputs(gguf: &Gguf, weight: &str, x: &[f32], isa: Isa) -> Result<(usize, Vec<f32>), Box<dyn Error>> {
    let tensor = gguf.tensor(weight).ok_or_else(|| format!("the model has no {weight}"))?;
    let data = gguf.data(tensor).ok_or_else(|| format!("{weight} is cut off"))?;
    let [cols, rows] = tensor.dims[..] else { return Err(format!("{weight} is no matrix").into()) };
    let (cols, rows) = (usize::try_from(cols)?, usize::try_from(rows)?);
    Ok((rows, matmul(tensor.dtype, isa, data, rows, cols, x)?))
}
