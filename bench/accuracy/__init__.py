"""How well verdicts and the quality gate hold on spoiled and synthetic images."""
