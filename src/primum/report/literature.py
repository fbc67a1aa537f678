"""The works behind the methods: key to citation."""

from primum.report import observed_words

CITATIONS: dict[str, str] = {
    "agresti2000": "Agresti A, Caffo B. Simple and effective confidence intervals for proportions and "
    "differences of proportions result from adding two successes and two failures. Am Stat "
    "2000;54(4):280-288.",
    "balle2018": "Balle B, Wang Y-X. Improving the Gaussian mechanism for differential privacy: analytical "
    "calibration and optimal denoising. ICML 2018.",
    "bates2023": "Bates S, Candès E, Lei L, Romano Y, Sesia M. Testing for outliers with conformal "
    "p-values. Ann Stat 2023;51(1):149-178.",
    "benjamini1995": "Benjamini Y, Hochberg Y. Controlling the false discovery rate: a practical and "
    "powerful approach to multiple testing. J R Stat Soc B 1995;57(1):289-300.",
    "bertran2023": "Bertran M, Tang S, Roth A, Kearns M, Morgenstern J H, Wu S Z. Scalable membership "
    "inference attacks via quantile regression. NeurIPS 2023.",
    "besag1991": "Besag J, Clifford P. Sequential Monte Carlo p-values. Biometrika 1991;78(2):301-304.",
    "broder1997": "Broder A Z. On the resemblance and containment of documents. Compression and Complexity "
    "of Sequences 1997, 21-29.",
    "carlini2019": "Carlini N, Liu C, Erlingsson Ú, Kos J, Song D. The secret sharer: evaluating and testing "
    "unintended memorization in neural networks. USENIX Security 2019.",
    "carlini2021": "Carlini N, Tramèr F, Wallace E, et al. Extracting training data from large language "
    "models. USENIX Security 2021.",
    "carlini2022": "Carlini N, Chien S, Nasr M, Song S, Terzis A, Tramèr F. Membership inference attacks "
    "from first principles. IEEE Symposium on Security and Privacy 2022.",
    "carlini2023": "Carlini N, Ippolito D, Jagielski M, Lee K, Tramèr F, Zhang C. Quantifying memorization "
    "across neural language models. ICLR 2023.",
    "choquettechoo2021": "Choquette-Choo C A, Tramèr F, Carlini N, Papernot N. Label-only membership "
    "inference attacks. ICML 2021.",
    "clopper1934": "Clopper C J, Pearson E S. The use of confidence or fiducial limits illustrated in the "
    "case of the binomial. Biometrika 1934;26(4):404-413.",
    "das2025": "Das D, Zhang J, Tramèr F. Blind baselines beat membership inference attacks for foundation "
    "models. IEEE Security and Privacy Workshops 2025.",
    "delong1988": "DeLong E R, DeLong D M, Clarke-Pearson D L. Comparing the areas under two or more "
    "correlated receiver operating characteristic curves: a nonparametric approach. Biometrics "
    "1988;44(3):837-845.",
    "dersimonian1986": "DerSimonian R, Laird N. Meta-analysis in clinical trials. Control Clin Trials "
    "1986;7(3):177-188.",
    "fredrikson2014": "Fredrikson M, Lantz E, Jha S, Lin S, Page D, Ristenpart T. Privacy in "
    "pharmacogenetics: an end-to-end case study of personalized warfarin dosing. USENIX Security 2014.",
    "fredrikson2015": "Fredrikson M, Jha S, Ristenpart T. Model inversion attacks that exploit "
    "confidence information and basic countermeasures. ACM CCS 2015.",
    "geiping2020": "Geiping J, Bauermeister H, Dröge H, Moeller M. Inverting gradients: how easy is it to "
    "break privacy in federated learning? NeurIPS 2020.",
    "goeman2019": "Goeman J J, Meijer R J, Krebs T J P, Solari A. Simultaneous control of all false "
    "discovery proportions in large-scale multiple hypothesis testing. Biometrika 2019;106(4):841-856.",
    "hayes2025": "Hayes J, Swanberg M, Chaudhari H, et al. Measuring memorization in language models via "
    "probabilistic extraction. NAACL 2025.",
    "holm1979": "Holm S. A simple sequentially rejective multiple test procedure. Scand J Stat "
    "1979;6(2):65-70.",
    "jagielski2020": "Jagielski M, Ullman J, Oprea A. Auditing differentially private machine learning: how "
    "private is private SGD? NeurIPS 2020.",
    "knolle2026": "Knolle M, et al. Disparate privacy risks from medical AI. Nature 2026.",
    "maini2024": "Maini P, Jia H, Papernot N, Dziedzic A. LLM dataset inference: did you train on my "
    "dataset? NeurIPS 2024.",
    "mannwhitney1947": "Mann H B, Whitney D R. On a test of whether one of two random variables is "
    "stochastically larger than the other. Ann Math Stat 1947;18(1):50-60.",
    "mehnaz2022": "Mehnaz S, Dibbo S V, Kabir E, Li N, Bertino E. Are your sensitive attributes private? "
    "Novel model inversion attribute inference attacks on classification models. USENIX Security 2022.",
    "nasr2019": "Nasr M, Shokri R, Houmansadr A. Comprehensive privacy analysis of deep learning: passive "
    "and active white-box inference attacks against centralized and federated learning. IEEE Symposium on "
    "Security and Privacy 2019.",
    "nasr2021": "Nasr M, Song S, Thakurta A, Papernot N, Carlini N. Adversary instantiation: lower bounds "
    "for differentially private machine learning. IEEE Symposium on Security and Privacy 2021.",
    "phipson2010": "Phipson B, Smyth G K. Permutation p-values should never be zero: calculating exact "
    "p-values when permutations are randomly drawn. Stat Appl Genet Mol Biol 2010;9(1):39.",
    "preen2024": "Preen R J, Smith J, et al. SACRO-ML: disclosure control tools for machine learning models "
    "(structural attack). Software, 2024.",
    "shi2024": "Shi W, Ajith A, Xia M, et al. Detecting pretraining data from large language models. ICLR "
    "2024.",
    "simes1986": "Simes R J. An improved Bonferroni procedure for multiple tests of significance. Biometrika "
    "1986;73(3):751-754.",
    "song2020": "Song C, Raghunathan A. Information leakage in embedding models. ACM CCS 2020.",
    "song2021": "Song L, Mittal P. Systematic evaluation of privacy risks of machine learning models. USENIX "
    "Security 2021.",
    "steinke2023": "Steinke T, Nasr M, Jagielski M. Privacy auditing with one (1) training run. NeurIPS "
    "2023.",
    "stouffer1949": "Stouffer S A, Suchman E A, DeVinney L C, Star S A, Williams R M. The American "
    "soldier, vol. 1. Princeton University Press 1949.",
    "sunxu2014": "Sun X, Xu W. Fast implementation of DeLong's algorithm for comparing the areas under "
    "correlated receiver operating characteristic curves. IEEE Signal Process Lett 2014;21(11):1389-1393.",
    "sweeney2002": "Sweeney L. k-anonymity: a model for protecting privacy. Int J Uncertain Fuzz "
    "2002;10(5):557-570.",
    "szekely2004": "Székely G J, Rizzo M L. Testing for equal distributions in high dimension. InterStat "
    "2004;5.",
    "tonekaboni2025": "Tonekaboni S, Stempfle L, Fallahpour A, Gerych W, Ghassemi M. An investigation of "
    "memorization risk in healthcare foundation models. NeurIPS 2025.",
    "watson2022": "Watson L, Guo C, Cormode G, Sablayrolles A. On the importance of difficulty calibration "
    "in membership inference attacks. ICLR 2022.",
    "ye2022": "Ye J, Maddi A, Murakonda S K, Bindschaedler V, Shokri R. Enhanced membership inference "
    "attacks against machine learning models. ACM CCS 2022.",
    "yeom2018": "Yeom S, Giacomelli I, Fredrikson M, Jha S. Privacy risk in machine learning: analyzing the "
    "connection to overfitting. IEEE Computer Security Foundations Symposium 2018.",
    "zhang2020": "Zhang Y, Jia R, Pei H, Wang W, Li B, Song D. The secret revealer: generative "
    "model-inversion attacks against deep neural networks. CVPR 2020.",
    "zhang2025": "Zhang J, Sun J, Yeats E, et al. Min-K%++: improved baseline for detecting pre-training "
    "data from large language models. ICLR 2025.",
    "zarifzadeh2024": "Zarifzadeh S, Liu P, Shokri R. Low-cost high-power membership inference attacks. ICML "
    "2024.",
    **observed_words.LITERATURE,
}
