//! Flags of the sampler: llama.cpp's names, defaults and meanings.

use clap::Args;
use quipu::engine::SamplerParams;
use quipu::error::escape;

/// How the next token is chosen.
#[derive(Debug, Args)]
#[command(next_help_heading = "Sampling, in this order")]
pub struct SamplingArgs {
    /// Add to the logit of a token, for example 15043+1 or 15043-inf. May be given several times
    #[arg(short, long, value_name = "ID+BIAS", value_parser = parse_bias)]
    logit_bias: Vec<(u32, f32)>,
    /// Never choose a token that ends the generation
    #[arg(long)]
    ignore_eos: bool,
    /// Tokens that the penalties look back at, -1 for all
    #[arg(long, value_name = "N", default_value_t = 64, allow_negative_numbers = true)]
    repeat_last_n: i32,
    /// Divide the logits of tokens seen lately, 1 for none
    #[arg(long, value_name = "R", default_value_t = 1.0)]
    repeat_penalty: f32,
    /// Subtract from the logits of tokens seen lately
    #[arg(long, value_name = "P", default_value_t = 0.0, allow_negative_numbers = true)]
    presence_penalty: f32,
    /// Subtract from the logits of tokens for each time they were seen lately
    #[arg(long, value_name = "P", default_value_t = 0.0, allow_negative_numbers = true)]
    frequency_penalty: f32,
    /// Keep the K most likely tokens, 0 for all
    #[arg(long, value_name = "K", default_value_t = 40, allow_negative_numbers = true)]
    top_k: i32,
    /// Keep the most likely tokens that together reach this probability, 1 for all
    #[arg(long, value_name = "P", default_value_t = 0.95)]
    top_p: f32,
    /// Drop tokens less likely than this part of the most likely, 0 for none
    #[arg(long, value_name = "P", default_value_t = 0.05)]
    min_p: f32,
    /// Temperature, 0 for the most likely token always
    #[arg(
        long,
        visible_alias = "temperature",
        value_name = "T",
        default_value_t = 0.8,
        allow_negative_numbers = true
    )]
    temp: f32,
    /// Seed of the draws, -1 for a new one each time
    #[arg(short, long, value_name = "SEED", default_value = "-1", allow_negative_numbers = true, value_parser = parse_seed)]
    seed: Seed,
}

/// A seed that may be left open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Seed(Option<u64>);

fn parse_seed(text: &str) -> Result<Seed, String> {
    match text {
        "-1" => Ok(Seed(None)),
        _ => text.parse().map(|n| Seed(Some(n))).map_err(|_| "not a whole number from 0, or -1".into()),
    }
}

/// `ID+BIAS` or `ID-BIAS`.
fn parse_bias(text: &str) -> Result<(u32, f32), String> {
    let form = || format!("\"{}\" is not of the form ID+BIAS or ID-BIAS", escape(text));
    let sign = text.find(['+', '-']).ok_or_else(form)?;
    let (id, bias) = text.split_at(sign);
    let value: f32 = bias.get(1..).unwrap_or_default().parse().map_err(|_| form())?;
    if value.is_nan() || value.is_sign_negative() {
        return Err(form());
    }
    let bias = if bias.starts_with('-') { -value } else { value };
    Ok((id.parse().map_err(|_| form())?, bias))
}

impl SamplingArgs {
    /// As the sampler takes them.
    pub fn params(&self) -> SamplerParams {
        SamplerParams {
            temp: self.temp,
            top_k: self.top_k,
            top_p: self.top_p,
            min_p: self.min_p,
            repeat_penalty: self.repeat_penalty,
            repeat_last_n: self.repeat_last_n,
            presence_penalty: self.presence_penalty,
            frequency_penalty: self.frequency_penalty,
            logit_bias: self.logit_bias.clone(),
            seed: self.seed.0,
            ignore_eos: self.ignore_eos,
            draws: 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn biases() {
        assert_eq!(parse_bias("15043+1"), Ok((15043, 1.0)));
        assert_eq!(parse_bias("2-0.5"), Ok((2, -0.5)));
        assert_eq!(parse_bias("2-inf"), Ok((2, f32::NEG_INFINITY)));
        for bad in ["", "2", "2+", "x+1", "-1+1", "2+-1", "2+nan"] {
            assert!(parse_bias(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn seeds() {
        assert_eq!(parse_seed("-1"), Ok(Seed(None)));
        assert_eq!(parse_seed("18446744073709551615"), Ok(Seed(Some(u64::MAX))));
        assert!(parse_seed("-2").is_err() && parse_seed("x").is_err());
    }

    #[test]
    fn defaults_are_the_samplers_own() {
        #[derive(clap::Parser)]
        struct Just {
            #[command(flatten)]
            s: SamplingArgs,
        }
        let parsed = <Just as clap::Parser>::parse_from(["x"]);
        assert_eq!(parsed.s.params(), SamplerParams::default());
    }
}
