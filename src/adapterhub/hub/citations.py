"""The papers of the methods, for cards."""

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class Paper:
    """A paper, by its number on arXiv."""

    key: str
    title: str
    authors: str
    year: int
    arxiv: str

    def bibtex(self) -> str:
        """The entry for BibTeX."""
        return (
            f"@misc{{{self.key},\n  title = {{{self.title}}},\n  author = {{{self.authors}}},\n"
            f"  year = {{{self.year}}},\n  eprint = {{{self.arxiv}}},\n  archivePrefix = {{arXiv}}\n}}"
        )


_FUSION = Paper(
    "pfeiffer2020adapterfusion",
    "{AdapterFusion}: Non-Destructive Task Composition for Transfer Learning",
    "Pfeiffer, Jonas and Kamath, Aishwarya and R{\\\"u}ckl{\\'e}, Andreas and Cho, Kyunghyun and Gurevych, Iryna",
    2020,
    "2005.00247",
)
_HOULSBY = Paper(
    "houlsby2019parameter",
    "Parameter-Efficient Transfer Learning for {NLP}",
    "Houlsby, Neil and others",
    2019,
    "1902.00751",
)
_COMPACTER = Paper(
    "mahabadi2021compacter",
    "Compacter: Efficient Low-Rank Hypercomplex Adapter Layers",
    "Karimi Mahabadi, Rabeeh and Henderson, James and Ruder, Sebastian",
    2021,
    "2106.04647",
)
_MAD_X = Paper(
    "pfeiffer2020madx",
    "{MAD-X}: An Adapter-Based Framework for Multi-Task Cross-Lingual Transfer",
    "Pfeiffer, Jonas and Vuli{\\'c}, Ivan and Gurevych, Iryna and Ruder, Sebastian",
    2020,
    "2005.00052",
)
_DORA = Paper(
    "liu2024dora", "{DoRA}: Weight-Decomposed Low-Rank Adaptation", "Liu, Shih-Yang and others", 2024, "2402.09353"
)
_METHODS = {
    "bitfit": Paper(
        "zaken2021bitfit",
        "{BitFit}: Simple Parameter-Efficient Fine-Tuning for Transformer-Based Masked Language-Models",
        "Ben Zaken, Elad and Ravfogel, Shauli and Goldberg, Yoav",
        2021,
        "2106.10199",
    ),
    "bottleneck": _HOULSBY,
    "fusion": _FUSION,
    "ia3": Paper(
        "liu2022fewshot",
        "Few-Shot Parameter-Efficient Fine-Tuning is Better and Cheaper than In-Context Learning",
        "Liu, Haokun and others",
        2022,
        "2205.05638",
    ),
    "lhuc": Paper(
        "swietojanski2016lhuc",
        "Learning Hidden Unit Contributions for Unsupervised Acoustic Model Adaptation",
        "Swietojanski, Pawel and Li, Jinyu and Renals, Steve",
        2016,
        "1601.02828",
    ),
    "ladder": Paper(
        "sung2022lst",
        "{LST}: Ladder Side-Tuning for Parameter and Memory Efficient Transfer Learning",
        "Sung, Yi-Lin and Cho, Jaemin and Bansal, Mohit",
        2022,
        "2206.06522",
    ),
    "ln_tuning": Paper(
        "zhao2023tuning",
        "Tuning {LayerNorm} in Attention: Towards Efficient Multi-Modal {LLM} Finetuning",
        "Zhao, Bingchen and others",
        2023,
        "2312.11420",
    ),
    "lora": Paper(
        "hu2021lora",
        "{LoRA}: Low-Rank Adaptation of Large Language Models",
        "Hu, Edward J. and others",
        2021,
        "2106.09685",
    ),
    "mtl_lora": Paper(
        "yang2024mtllora",
        "{MTL-LoRA}: Low-Rank Adaptation for Multi-Task Learning",
        "Yang, Yaming and others",
        2024,
        "2410.09437",
    ),
    "prefix_tuning": Paper(
        "li2021prefix",
        "Prefix-Tuning: Optimizing Continuous Prompts for Generation",
        "Li, Xiang Lisa and Liang, Percy",
        2021,
        "2101.00190",
    ),
    "prompt_tuning": Paper(
        "lester2021power",
        "The Power of Scale for Parameter-Efficient Prompt Tuning",
        "Lester, Brian and Al-Rfou, Rami and Constant, Noah",
        2021,
        "2104.08691",
    ),
    "reft": Paper(
        "wu2024reft",
        "{ReFT}: Representation Finetuning for Language Models",
        "Wu, Zhengxuan and others",
        2024,
        "2404.03592",
    ),
    "vera": Paper(
        "kopiczko2023vera",
        "{VeRA}: Vector-based Random Matrix Adaptation",
        "Kopiczko, Dawid J. and Blankevoort, Tijmen and Asano, Yuki M.",
        2023,
        "2310.11454",
    ),
}


def papers(methods: Iterable[str], options: Iterable[str]) -> tuple[Paper, ...]:
    """The papers of methods, and of the ``options`` of a configuration that are on and have one of their own."""
    more = {"inv_adapter": _MAD_X, "phm_layer": _COMPACTER, "use_dora": _DORA}
    found = [_METHODS[method] for method in methods if method in _METHODS]
    return tuple(dict.fromkeys([*found, *(more[option] for option in options if option in more)]))
